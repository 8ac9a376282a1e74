"""Purification before cell-type classifiers, under attacks that know of it and attacks that do not.

Three parts of the cells: the model and the classifiers are fitted to the first, parameters of all defenses are chosen
on the second, and the third is attacked and reported. Profiles are log1p of counts per 10,000 of the genes that vary
most.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.sparse as sp
from shield_cells import GENES, SETS, Cells, Logits, cross_entropy, load, logistic, of_counts, perceptron, right
from shield_known import known
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

import scdae
from scdae.core.network.encoder_input import TARGET

CELLS = 300  # of the validation and test cells that are attacked; the rest give the accuracy on clean cells, too
STEPS = 20
EPSILONS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8)
MOLECULES = (10, 20, 30, 40, 50, 60, 80, 100, 120)
BROKEN = 0.2  # accuracy without a defense
LOSS = 0.007  # of clean accuracy on validation cells, that a choice of parameters may cost
# One purifier for profiles that were perturbed as logs, and one for counts that were tampered with: which of them are
# let in is for the user to say. The second sees few molecules at a time, so its model is trained on as few.
SETTINGS: dict[str, dict[str, Any]] = {"logs": {}, "counts": {"noise": (0.4, 0.95)}}
GRIDS: dict[str, list[dict[str, Any]]] = {
    "logs": [{}, {"n_passes": 2}, {"keep": 0.5, "n_draws": 16}],
    "counts": [{"keep": keep, "n_draws": 16} for keep in (0.2, 0.1)],
}
STRENGTHS = (1.0, 0.9, 0.8)


# attacks: `slope(logs, depth, labels)` is the gradient of the loss in the profiles


def fgsm(slope: Callable, cells: Cells, epsilon: float) -> Cells:
    step = epsilon * np.sign(slope(cells.logs, cells.depth, cells.labels))
    return replace(cells, logs=np.maximum(cells.logs + step, 0).astype(np.float32))


def pgd(slope: Callable, cells: Cells, epsilon: float) -> Cells:
    low, high, logs = np.maximum(cells.logs - epsilon, 0), cells.logs + epsilon, cells.logs
    for _ in range(STEPS):
        step = 2.5 * epsilon / STEPS * np.sign(slope(logs, cells.depth, cells.labels))
        logs = np.clip(logs + step, low, high).astype(np.float32)
    return replace(cells, logs=logs)


def molecules(slope: Callable, cells: Cells, number: int, rounds: int = 20) -> Cells:
    """Add or take away molecules, where the loss rises most by its gradient: about `number` in all, over several rounds."""
    counts, row = np.rint(cells.counts), np.arange(len(cells.labels))[:, None]
    n_genes = counts.shape[1]
    for some in np.array_split(np.arange(number), min(rounds, number)):
        now = of_counts(counts, cells.labels)
        scale = (TARGET / now.depth)[:, None]
        gradient = np.asarray(slope(now.logs, now.depth, now.labels))
        more = gradient * (np.log1p((counts + 1) * scale) - now.logs)
        less = np.where(counts > 0, gradient * (np.log1p(np.maximum(counts - 1, 0) * scale) - now.logs), -np.inf)
        best = np.argpartition(-np.concatenate([more, less], axis=1), len(some), axis=1)[:, : len(some)]
        np.add.at(counts, (np.broadcast_to(row, best.shape), best % n_genes), np.where(best < n_genes, 1, -1))
    return of_counts(counts, cells.labels)


ATTACKS = {"FGSM": (fgsm, EPSILONS), "PGD": (pgd, EPSILONS), "molecules": (molecules, MOLECULES)}


def plain_slope(logits: Logits) -> Callable:
    slope = jax.jit(jax.grad(lambda logs, labels: cross_entropy(logits(logs), labels)))
    return lambda logs, depth, labels: slope(logs, labels)


# defenses: a function from cells to cells


def purifier(model: scdae.DAE, strength: float, **parameters: Any) -> Callable[[Cells], Cells]:
    """The projection, mixed with the profile."""
    step = scdae.sklearn.Purifier(model, allow_fractional=True, **parameters)

    def purified(cells: Cells) -> Cells:
        logs = step.fit(cells.counts[:2]).transform(cells.counts)
        return replace(cells, logs=strength * logs + (1 - strength) * cells.logs)

    return purified


def projection(train: Cells, n_components: int) -> Callable[[Cells], Cells]:
    """PCA: on the principal axes and back."""
    pca = PCA(n_components, random_state=0).fit(train.logs)
    return lambda cells: replace(cells, logs=pca.inverse_transform(pca.transform(cells.logs)).astype(np.float32))


def smoothing(train: Cells, n_neighbors: int) -> Callable[[Cells], Cells]:
    """Gaussian smoothing: mean of the nearest training cells, weighted by a Gaussian kernel of distance on 20 axes."""
    pca = PCA(20, random_state=0).fit(train.logs)
    near = NearestNeighbors(n_neighbors=n_neighbors).fit(pca.transform(train.logs))

    def smoothed(cells: Cells) -> Cells:
        distance, index = near.kneighbors(pca.transform(cells.logs))
        weight = np.exp(-0.5 * (distance / distance.mean(axis=1, keepdims=True)) ** 2)
        weight /= weight.sum(axis=1, keepdims=True)
        matrix = sp.csr_matrix((weight.ravel(), index.ravel(), np.arange(0, index.size + 1, n_neighbors)))
        matrix.resize(len(cells.labels), len(train.labels))
        return replace(cells, logs=(matrix @ train.logs).astype(np.float32))

    return smoothed


def noise(deviation: float, draws: int = 8) -> Callable[[Cells], list[Cells]]:
    """Randomized smoothing: votes over copies with Gaussian noise (as in Cohen, Rosenfeld and Kolter, 2019)."""

    def copies(cells: Cells) -> list[Cells]:
        rng = np.random.default_rng(0)
        sizes = range(draws)
        return [
            replace(cells, logs=cells.logs + deviation * rng.standard_normal(cells.logs.shape, dtype=np.float32))
            for _ in sizes
        ]

    return copies


def accuracy(logits: Logits, defense: Callable, cells: Cells) -> float:
    found = defense(cells)
    if isinstance(found, Cells):
        return float(right(logits, found).mean())
    votes = sum(jax.nn.one_hot(logits(copy.logs).argmax(axis=1), int(cells.labels.max()) + 64) for copy in found)
    return float((np.asarray(votes).argmax(axis=1) == cells.labels).mean())


def breaking(logits: Logits, cells: Cells, attack: str) -> tuple[float, Cells]:
    """The smallest budget that brings the accuracy without a defense below 20 %, or the largest, and the attacked cells."""
    function, budgets = ATTACKS[attack]
    attacked = cells
    for budget in budgets:
        attacked = function(plain_slope(logits), cells, budget)
        if right(logits, attacked).mean() < BROKEN:
            break
    return budget, attacked


def chosen(logits: Logits, candidates: dict[str, Callable], clean: Cells, attacked: list[Cells]) -> str:
    """The candidate that is right most often on attacked validation cells, of those that lose little on clean ones."""
    without = right(logits, clean).mean()
    lost = {name: without - accuracy(logits, defense, clean) for name, defense in candidates.items()}
    allowed = [name for name, value in lost.items() if value <= max(LOSS, min(lost.values()))]
    scores = {name: np.mean([accuracy(logits, candidates[name], cells) for cells in attacked]) for name in allowed}
    return max(scores, key=scores.__getitem__)


def shield(shared: Path, names: list[str], *, quick: bool = False) -> None:
    """Print accuracies by data set, classifier, attack and defense; with `quick` only what rounding and projection do each."""
    if not quick:
        known(shared, names)
    print("\nPurification before a classifier: accuracy on test cells, clean and attacked")
    print(
        f"{GENES} genes; LR: logistic regression, MLP: one hidden layer. Classifiers are trained on the profiles as they are,"
    )
    print("but for 'trained on purified'. Every defense has the parameters that served best on validation cells.")
    fitted: dict[str, dict[str, scdae.DAE]] = {}
    for name in SETS:
        if names and not any(part in name for part in names):
            continue
        counted, (train, validation, test) = load(shared, name)
        file = SETS[name][0]
        if file not in fitted:  # both labellings of pbmc_facs have the same training cells
            spaces = {"logs": SETTINGS["logs"]} if quick else SETTINGS
            fitted[file] = {space: scdae.DAE(seed=0, **settings).fit(counted) for space, settings in spaces.items()}
        models = fitted[file]
        print(
            f"\n{name}: {len(train.labels)} cells to train, {len(validation.labels)} to validate, {len(test.labels)} to test"
        )
        for kind, fit in (("LR", logistic), ("MLP", perceptron)):
            rounding(f"{name} {kind}", fit(train, validation), models["logs"], train, test)
            if quick:
                continue
            one_classifier(f"{name} {kind}", fit, models, train, validation, test)


def rounding(title: str, logits: Logits, model: scdae.DAE, train: Cells, test: Cells) -> None:
    """What rounding to whole molecules does alone, before other projections, and what is left of ours without it."""

    def whole(cells: Cells) -> Cells:
        return replace(of_counts(np.rint(cells.counts), cells.labels), depth=cells.depth)

    pca, near = projection(train, 20), smoothing(train, 30)
    defenses: dict[str, Callable[[Cells], Cells]] = {
        "none": lambda cells: cells,
        "rounding alone": whole,
        "rounding, PCA, 20 axes": lambda cells: pca(whole(cells)),
        "rounding, neighbors, 30 cells": lambda cells: near(whole(cells)),
        "scdae, fractions kept": purifier(model, 1.0, fractions="keep"),
        "scdae, with rounding": purifier(model, 1.0),
    }
    some, columns = test.take(slice(CELLS)), {"clean": test}
    for attack in ("FGSM", "PGD"):
        budget, attacked = breaking(logits, some, attack)
        more = ATTACKS[attack][1][min(ATTACKS[attack][1].index(budget) + 2, len(EPSILONS) - 1)]
        columns[f"{attack} {budget:g}"] = attacked
        columns[f"{attack} {more:g}"] = ATTACKS[attack][0](plain_slope(logits), some, more)
    print(f"\n{title}: what rounding does, and what projection does")
    print(f"{'':36s}" + "".join(f"{column:>14s}" for column in columns))
    for defense, function in defenses.items():
        values = [accuracy(logits, function, cells) for cells in columns.values()]
        print(f"{defense:36s}" + "".join(f"{value:14.3f}" for value in values), flush=True)


def one_classifier(
    title: str,
    fit: Callable[[Cells, Cells], Logits],
    models: dict[str, scdae.DAE],
    train: Cells,
    validation: Cells,
    test: Cells,
) -> None:
    logits = fit(train, validation)
    worst = {attack: breaking(logits, validation.take(slice(CELLS)), attack)[1] for attack in ATTACKS}
    spaces = {"logs": [worst["FGSM"], worst["PGD"]], "counts": [worst["molecules"]]}
    others = {
        "PCA": {f"{k} axes": projection(train, k) for k in (10, 20, 50)},
        "neighbors": {f"{k} cells": smoothing(train, k) for k in (10, 30)},
        "noise": {f"sd {s}": noise(s) for s in (0.1, 0.25, 0.5)},
    }
    defenses: dict[str, tuple[Logits, Callable]] = {"none": (logits, lambda cells: cells)}
    for defense, candidates in others.items():
        pick = chosen(logits, candidates, validation, list(worst.values()))
        defenses[f"{defense}, {pick}"] = logits, candidates[pick]
    shields = {}
    print(f"\n{title}: parameters of scdae, chosen for profiles perturbed as logs, and as counts")
    for space, attacked in spaces.items():
        place, strength = chosen(logits, purifiers(models[space], GRIDS[space]), validation, attacked).split()
        parameters = dict(GRIDS[space][int(place)], strength=float(strength))
        shielded = purifier(models[space], **parameters)
        on_purified = fit(shielded(train), shielded(validation))
        shields[space] = parameters, models[space], shielded, {"raw": logits, "purified": on_purified}
        for trained, head in shields[space][3].items():
            defenses[f"scdae for {space}, trained on {trained}"] = head, shielded
        print(f"  {space}: {', '.join(f'{key}={value}' for key, value in parameters.items())}")

    columns, broken = {"clean": test}, {}
    some = test.take(slice(CELLS))
    for attack, (function, budgets) in ATTACKS.items():
        broken[attack], attacked = breaking(logits, some, attack)
        at = budgets.index(broken[attack])
        for budget in budgets[max(at - 2, 0) : at]:
            columns[f"{attack} {budget:g}"] = function(plain_slope(logits), some, budget)
        columns[f"{attack} {broken[attack]:g}"] = attacked
    print(f"{'':36s}" + "".join(f"{column:>14s}" for column in columns))
    found = {}
    for defense, (head, function) in defenses.items():
        found[defense] = {column: accuracy(head, function, cells) for column, cells in columns.items()}
        print(f"{defense:36s}" + "".join(f"{value:14.3f}" for value in found[defense].values()), flush=True)
    plain = found["none"]
    for defense in [name for name in defenses if name.startswith("scdae")]:
        lost = 100 * (plain["clean"] - found[defense]["clean"])
        left = [
            f"{column} {found[defense][column] / plain['clean']:.0%}" for column in columns if plain[column] < BROKEN
        ]
        print(f"{defense}: {lost:.1f} points of clean accuracy lost; left of it where it is broken: {', '.join(left)}")


def purifiers(model: scdae.DAE, grid: list[dict[str, Any]]) -> dict[str, Callable[[Cells], Cells]]:
    """Every choice of parameters, named by its place in the grid and its strength; projections are worked out once."""
    known: dict[tuple[int, int], np.ndarray] = {}

    def projected(place: int, cells: Cells) -> np.ndarray:
        key = place, id(cells)
        if key not in known:
            known[key] = purifier(model, 1.0, **grid[place])(cells).logs
        return known[key]

    def mixed(place: int, strength: float) -> Callable[[Cells], Cells]:
        return lambda cells: replace(cells, logs=strength * projected(place, cells) + (1 - strength) * cells.logs)

    return {f"{place} {strength}": mixed(place, strength) for place in range(len(grid)) for strength in STRENGTHS}
