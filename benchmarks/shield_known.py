"""The table of the shield against attackers who know of it: defenses, seeds, confidence intervals, and checks of the attacks."""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from attacks import apgd, greedy
from shield_attacks import ATTACKS, STEPS, box, on_counts, on_logs, through_counts, through_logs
from shield_cells import Cells, load, of_counts
from shield_targets import Target, Weights, changed_counts, changed_logs, margin, trained, whole

import scdae
from scdae.core.guard.purification import Purification

GENES, CELLS, SEEDS = 1000, 60, 3
EPSILON, NUMBER = 0.5, 40  # largest change of a log count, and molecules
CASES = (("pbmc3k, 8 types", "MLP"), ("pbmc3k, 8 types", "LR"), ("pbmc_facs, 5 types", "MLP"))
LOGS, COUNTS = Purification(fractions="round"), Purification(keep=0.2, n_draws=16, fractions="round")


class Setting:
    """Cells, models and classifiers of one data set, kind of classifier and seed."""

    def __init__(self, shared: Path, name: str, kind: str, seed: int, models: dict[str, scdae.DAE] | None = None):
        self.epsilon, self.number = EPSILON, NUMBER
        known, (self.train, _, self.test) = load(shared, name, GENES, seed)
        self.models = models or {
            "logs": scdae.DAE(seed=seed).fit(known),
            "counts": scdae.DAE(seed=seed, noise=(0.4, 0.95)).fit(known),
            "other": scdae.DAE(seed=seed + 100).fit(known),
        }
        self.kind, self.seed = kind, seed
        self.most = whole(self.train).max(axis=0)  # no gene above what a training cell has
        self.raw, self.surrogate = trained(self.train, kind, seed), trained(self.train, "MLP", seed + 100)
        order = np.random.default_rng(seed).permutation(len(self.test.labels))
        self.some = self.test.take(np.sort(order[:CELLS]))

    def behind(self, weights: Weights, space: str, how: Purification) -> Target:
        return Target(weights, self.models[space].outcome.fitted, how)

    def on_purified(self, space: str, how: Purification) -> Weights:
        shield = self.behind(self.raw, space, how)
        rng, parts = np.random.default_rng(0), []
        for start in range(0, len(self.train.labels), CELLS):
            part = self.train.take(np.minimum(np.arange(start, start + CELLS), len(self.train.labels) - 1))
            drawn = shield.drawn(part.logs, part.depth, rng, how.n_draws)
            parts.append(np.asarray(shield.shown(part.logs, part.depth, drawn)))
        purified = np.concatenate(parts)[: len(self.train.labels)]
        return trained(replace(self.train, logs=purified), self.kind, self.seed)

    def targets_logs(self) -> dict[str, Target]:
        hard = trained(self.train, self.kind, self.seed, changed_logs(self.epsilon))
        smooth, random = LOGS._replace(fractions="keep"), LOGS._replace(keep=0.5, n_draws=16)
        return {
            "no defense": Target(self.raw),
            "rounding alone": Target(self.raw, rounding=True),
            "scdae": self.behind(self.raw, "logs", LOGS),
            "scdae, trained on purified": self.behind(self.on_purified("logs", LOGS), "logs", LOGS),
            "scdae, no rounding: exact gradient": self.behind(self.raw, "logs", smooth),
            "scdae, thinned to half": self.behind(self.raw, "logs", random),
            "adversarial training": Target(hard),
            "adversarial training, scdae": self.behind(hard, "logs", LOGS),
            "adversarial training, rounding": Target(hard, rounding=True),
        }

    def targets_counts(self) -> dict[str, Target]:
        hard = trained(self.train, self.kind, self.seed, changed_counts(self.number, self.most))
        return {
            "no defense": Target(self.raw),
            "scdae, thinned to a fifth": self.behind(self.raw, "counts", COUNTS),
            "scdae, thinned, trained on purified": self.behind(self.on_purified("counts", COUNTS), "counts", COUNTS),
            "scdae, all molecules: exact gradient": self.behind(self.raw, "logs", LOGS),
            "adversarial training": Target(hard),
            "adversarial training, scdae thinned": self.behind(hard, "counts", COUNTS),
        }

    def known(self, space: str) -> list[np.ndarray]:
        """Cells that fool surrogates: another seed's classifier, alone and behind another seed's purifier."""
        cells, found = self.some, []
        for target in (Target(self.surrogate), self.behind(self.surrogate, "other", LOGS)):
            if space == "logs":
                slope = target.slope(cells.depth, cells.labels)
                found.append(apgd(slope, cells.logs, *box(cells, self.epsilon), STEPS)[0])
            else:
                gain = target.gain_counts(cells.labels, self.number)
                found.append(greedy(gain, whole(cells), self.number, self.most)[0])
        return found

    def results(self, space: str) -> Iterator[tuple[str, float, dict[str, np.ndarray]]]:
        """Accuracy of every defense on all clean test cells, and which of the attacked ones withstand each attack."""
        cells, known = self.some, self.known(space)
        for name, target in (self.targets_logs() if space == "logs" else self.targets_counts()).items():
            if space == "logs":
                attacked = on_logs(target, cells, self.epsilon, known)
            else:
                attacked = on_counts(target, cells, self.number, self.most, known)
            held = {attack: target.right(some) for attack, some in attacked.items()}
            held["all"] = np.all([target.right(cells), *held.values()], axis=0)
            yield name, float(target.right(self.test).mean()), held


def interval(held: np.ndarray) -> tuple[float, float]:
    """Wilson's 95 % interval of a fraction."""
    n, share, z = len(held), held.mean(), 1.96
    middle, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max((middle - half) / (1 + z**2 / n), 0.0), (middle + half) / (1 + z**2 / n)


def known(shared: Path, names: list[str]) -> None:
    """Print the checks and the table; `names` are parts of the names of data sets."""
    cases = [case for case in CASES if not names or any(part in case[0] for part in names)]
    print("\nThe shield against attackers who know of it: accuracy on clean test cells, and of attacked ones")
    print(f"{GENES} genes, {CELLS} attacked cells, {SEEDS} seeds; logs within {EPSILON:g}, or {NUMBER} molecules")
    fitted: dict[tuple[str, int], dict[str, scdae.DAE]] = {}
    for name, kind in cases:
        start, table = time.perf_counter(), defaultdict(list)
        for seed in range(SEEDS):
            setting = Setting(shared, name, kind, seed, fitted.get((name, seed)))
            fitted[name, seed] = setting.models
            for space in ("logs", "counts"):
                for defense, clean, held in setting.results(space):
                    table[space, defense].append((clean, held))
                    row(f"seed {seed}, {space}: {defense}", [(clean, held)])
        print(f"\n{name}, {kind}: all seeds, {time.perf_counter() - start:.0f} s")
        for (space, defense), runs in table.items():
            row(f"{space}: {defense}", runs)
        if (name, kind) == cases[0]:
            checks(setting)


def row(title: str, runs: list[tuple[float, dict[str, np.ndarray]]]) -> None:
    """One line of the table: means; for all attacks together an interval over cells, and the seeds' range."""
    held = {attack: np.concatenate([one[attack] for _, one in runs]) for attack in (*ATTACKS, "all")}
    low, high = interval(held["all"])
    seeds = [one["all"].mean() for _, one in runs]
    line = f"{title:56s} clean {np.mean([clean for clean, _ in runs]):5.1%}"
    line += "".join(f"  {attack} {held[attack].mean():5.1%}" for attack in ATTACKS)
    line += f"  all {held['all'].mean():5.1%} ({low:.0%} to {high:.0%}; seeds {min(seeds):.0%} to {max(seeds):.0%})"
    missed = held["gradient"] & ~held["all"]
    print(f"{line}  held by gradient alone {missed.mean():.1%}", flush=True)


def checks(setting: Setting) -> None:
    """Whether the attacks do what attacks have to: fall at no larger budget, and reach all cells without a bound."""
    cells, raw = setting.some, setting.raw
    smooth = setting.behind(raw, "logs", LOGS._replace(fractions="keep"))
    error = gradient_error(smooth, cells)
    print(f"exact gradient beside central differences: median relative error {error:.1e}")
    for name, target in {"scdae": setting.behind(raw, "logs", LOGS), "no rounding": smooth}.items():
        line = f"gradient, logs, {name}: right"
        for epsilon in (EPSILON / 2, EPSILON, 2 * EPSILON, 4 * EPSILON, 10 * EPSILON):
            attacked = replace(cells, logs=through_logs(target, cells, epsilon, []))
            line += f"  {epsilon:g}: {target.right(attacked).mean():.1%}"
        print(line, flush=True)
    thinned = setting.behind(raw, "counts", COUNTS)
    for name, target in {"thinned": thinned, "all molecules": setting.behind(raw, "logs", LOGS)}.items():
        line = f"gradient, molecules, {name}: right"
        for number in (NUMBER // 2, NUMBER, 2 * NUMBER, 4 * NUMBER, int(2 * cells.depth.max())):
            counts = through_counts(target, cells, number, setting.most, [])
            line += f"  {number}: {target.right(of_counts(counts, cells.labels)).mean():.1%}"
        print(line, flush=True)


def gradient_error(target: Target, cells: Cells, step: float = 0.02) -> float:
    """Slope of the margin along its gradient beside central differences, where nothing is drawn: the median over cells."""
    slope = target.slope(cells.depth, cells.labels, margin)
    _, gradient = slope(cells.logs)
    gradient = np.where(cells.logs > step, gradient, 0)  # below 0 logs are cut off
    along = gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12)
    ends = [slope((cells.logs + sign * step * along).astype(np.float32))[0] for sign in (1, -1)]
    expected = (gradient * along).sum(axis=1)
    return float(np.median(np.abs((ends[0] - ends[1]) / (2 * step) - expected) / np.maximum(expected, 1e-12)))
