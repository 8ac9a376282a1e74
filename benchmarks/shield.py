"""Purification before cell-type classifiers, under attacks that know of it and attacks that do not.

Three parts of the cells: the model and the classifiers are fitted to the first, parameters of all defences are chosen on the
second, and the third is attacked and reported. Profiles are log1p of counts per 10,000 of the genes that vary most.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata as ad
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.sparse as sp
from flax import nnx
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline

import scdae
from scdae.core.axes import TARGET
from scdae.core.purification import Purification, counts_of_logs, purify_counts, thinned_draws

GENES = 3000
CELLS = 400  # test cells that are attacked, and validation cells that parameters are chosen on
ADAPTIVE = 200  # test cells of the attack through the purifier
STEPS = 20
EPSILONS = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8)
MOLECULES = (5, 10, 20, 40, 80)
BROKEN = 0.2  # accuracy without a defence
LOSS = 0.005  # of clean accuracy on validation cells, that a choice of parameters may cost
SETS = {
    "pbmc_facs, 5 types": ("pbmc_facs", "subpop"),
    "pbmc_facs, 10 populations": ("pbmc_facs", "facs_celltype"),
    "pbmc3k, 8 types": ("pbmc3k", "cell_type"),
}
GRID = [
    {"n_passes": passes, "keep": keep, "n_draws": 8, "fractions": "round"}
    for passes, keep in ((1, 1.0), (1, 0.5), (1, 0.2), (2, 1.0))
]
STRENGTHS = (1.0, 0.9, 0.8)


@dataclass(frozen=True)
class Cells:
    """Profiles as a classifier gets them, what they were made from, and what the cells are."""

    logs: np.ndarray  # float32 (n, n_genes)
    depth: np.ndarray  # float32 (n,)
    labels: np.ndarray  # int (n,)

    def take(self, part: Any) -> "Cells":
        return Cells(self.logs[part], self.depth[part], self.labels[part])

    @property
    def counts(self) -> np.ndarray:
        return np.asarray(counts_of_logs(self.logs, self.depth))


def of_counts(counts: np.ndarray, labels: np.ndarray) -> Cells:
    depth = counts.sum(axis=1)
    return Cells(np.log1p(counts * (TARGET / depth)[:, None]).astype(np.float32), depth.astype(np.float32), labels)


def load(shared: Path, name: str) -> tuple[ad.AnnData, list[Cells]]:
    """Counts of the training cells, and the three parts: 60 % to train, 16 % to validate, 24 % to test."""
    file, column = SETS[name]
    adata = ad.read_h5ad(shared / f"data/{file}.h5ad")
    adata = adata[adata.obs[column].astype(str) != "filtered_out"]
    strata = adata.obs["facs_celltype" if file == "pbmc_facs" else column].astype(str).to_numpy()
    train, rest = train_test_split(np.arange(adata.n_obs), test_size=0.4, stratify=strata, random_state=0)
    validate, test = train_test_split(rest, test_size=0.6, stratify=strata[rest], random_state=0)
    labels = np.unique(adata.obs[column].astype(str), return_inverse=True)[1]
    counts = adata.X.toarray().astype(np.float32)
    vary = of_counts(counts[train], labels[train]).logs.var(axis=0)
    genes = np.sort(np.argsort(-vary)[:GENES])
    counts = counts[:, genes]
    known = ad.AnnData(sp.csr_matrix(counts[train]), var=adata.var[[]].iloc[genes])
    cells = of_counts(counts, labels)
    return known, [cells.take(train), cells.take(validate[:CELLS]), cells.take(test[:CELLS])]


# classifiers: a function from profiles to logits that JAX differentiates

Logits = Callable[[jax.Array], jax.Array]


def logistic(cells: Cells) -> Logits:
    """scikit-learn's logistic regression; of profiles without zeros on their principal axes, which saves time."""
    dense = (cells.logs > 0).mean() > 0.5
    if dense:
        model = make_pipeline(PCA(100, random_state=0), LogisticRegression(C=0.1, max_iter=1000))
        model.fit(cells.logs, cells.labels)
        axes, inner = model[0], model[1]
        kernel, bias = (
            axes.components_.T @ inner.coef_.T,
            inner.intercept_ - axes.mean_ @ axes.components_.T @ inner.coef_.T,
        )
    else:
        model = LogisticRegression(C=0.1, max_iter=1000).fit(sp.csr_matrix(cells.logs), cells.labels)
        kernel, bias = model.coef_.T, model.intercept_
    kernel, bias = jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32)
    return jax.jit(lambda logs: logs @ kernel + bias)


def perceptron(cells: Cells, n_hidden: int = 64, epochs: int = 15, batch: int = 128) -> Logits:
    """A hidden layer in Flax, trained with AdamW."""
    rngs = nnx.Rngs(0)
    n_classes = int(cells.labels.max()) + 1
    model = nnx.Sequential(
        nnx.Linear(cells.logs.shape[1], n_hidden, rngs=rngs), nnx.relu, nnx.Linear(n_hidden, n_classes, rngs=rngs)
    )
    optimizer = nnx.Optimizer(model, optax.adamw(1e-3, weight_decay=1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any, logs: jax.Array, labels: jax.Array) -> None:
        optimizer.update(model, nnx.grad(lambda m: cross_entropy(m(logs), labels))(model))

    rng = np.random.default_rng(0)
    for _ in range(epochs):
        order = rng.permutation(len(cells.labels))
        for start in range(0, len(order) - batch + 1, batch):
            part = cells.take(order[start : start + batch])
            step(model, optimizer, part.logs, part.labels)
    graph, state = nnx.split(model)
    return jax.jit(lambda logs: nnx.merge(graph, state)(logs))


def cross_entropy(logits: jax.Array, labels: Any) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()


def right(logits: Logits, cells: Cells) -> np.ndarray:
    return np.asarray(logits(cells.logs)).argmax(axis=1) == cells.labels


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


def adaptive_slope(logits: Logits, fitted: Any, how: Purification, draws: int = 4) -> Callable:
    """The gradient through the purifier, averaged over fresh draws of its thinning in each step."""
    how, rng = how._replace(n_draws=draws), np.random.default_rng(1)

    @jax.jit
    @jax.grad
    def slope(logs: jax.Array, depth: Any, labels: Any, drawn: Any) -> jax.Array:
        return cross_entropy(logits(purify_counts(fitted, counts_of_logs(logs, depth), how, drawn=drawn)), labels)

    def at(logs: np.ndarray, depth: np.ndarray, labels: np.ndarray) -> np.ndarray:
        drawn = thinned_draws(np.asarray(counts_of_logs(logs, depth)), how, rng)
        return np.asarray(slope(logs, depth, labels, drawn))

    return at


# defences: a function from cells to cells


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


def noise(deviation: float, draws: int = 16) -> Callable[[Cells], list[Cells]]:
    """Randomised smoothing: votes over copies with Gaussian noise (as in Cohen, Rosenfeld and Kolter, 2019)."""

    def copies(cells: Cells) -> list[Cells]:
        rng = np.random.default_rng(0)
        sizes = range(draws)
        return [
            replace(cells, logs=cells.logs + deviation * rng.standard_normal(cells.logs.shape, dtype=np.float32))
            for _ in sizes
        ]

    return copies


def accuracy(logits: Logits, defence: Callable, cells: Cells) -> float:
    found = defence(cells)
    if isinstance(found, Cells):
        return float(right(logits, found).mean())
    votes = sum(jax.nn.one_hot(logits(copy.logs).argmax(axis=1), int(cells.labels.max()) + 64) for copy in found)
    return float((np.asarray(votes).argmax(axis=1) == cells.labels).mean())


def breaking(logits: Logits, cells: Cells, attack: str) -> tuple[float, Cells]:
    """The smallest budget that brings the accuracy without a defence below 20 %, or the largest, and the attacked cells."""
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
    lost = {name: without - accuracy(logits, defence, clean) for name, defence in candidates.items()}
    allowed = [name for name, value in lost.items() if value <= max(LOSS, min(lost.values()))]
    scores = {name: np.mean([accuracy(logits, candidates[name], cells) for cells in attacked]) for name in allowed}
    return max(scores, key=scores.__getitem__)


def shield(shared: Path, names: list[str]) -> None:
    """Print accuracies by data set, classifier, attack and defence."""
    print("\nPurification before a classifier: accuracy on test cells, clean and attacked")
    print(
        f"{GENES} genes; LR: logistic regression, MLP: one hidden layer. Classifiers are trained on the profiles as they are,"
    )
    print("but for 'trained on purified'. Every defence has the parameters that served best on validation cells.")
    for name in SETS:
        if names and not any(part in name for part in names):
            continue
        known, (train, validation, test) = load(shared, name)
        model = scdae.DAE(seed=0).fit(known)
        print(
            f"\n{name}: {len(train.labels)} cells to train, {len(validation.labels)} to validate, {len(test.labels)} to test"
        )
        for kind, fit in (("LR", logistic), ("MLP", perceptron)):
            one_classifier(f"{name} {kind}", fit, model, train, validation, test)


def one_classifier(
    title: str, fit: Callable[[Cells], Logits], model: scdae.DAE, train: Cells, validation: Cells, test: Cells
) -> None:
    logits = fit(train)
    worst = [breaking(logits, validation, attack)[1] for attack in ATTACKS]
    ours = purifiers(model, [validation, *worst])
    best = chosen(logits, ours, validation, worst)
    parameters = dict(GRID[int(best.split()[0])], strength=float(best.split()[1]))
    shielded = purifier(model, **parameters)
    others = {
        "PCA projection": {f"{k} axes": projection(train, k) for k in (10, 20, 50)},
        "Gaussian kernel over cells": {f"{k} cells": smoothing(train, k) for k in (10, 30)},
        "Gaussian noise, votes": {f"sd {s}": noise(s) for s in (0.1, 0.25, 0.5)},
    }
    defences: dict[str, tuple[Logits, Callable]] = {"none": (logits, lambda cells: cells)}
    for defence, candidates in others.items():
        pick = chosen(logits, candidates, validation, worst)
        defences[f"{defence} ({pick})"] = logits, candidates[pick]
    defences["scdae"] = logits, shielded
    on_purified = fit(shielded(train))
    defences["scdae, trained on purified"] = on_purified, shielded

    print(f"\n{title}. scdae: {', '.join(f'{key}={value}' for key, value in parameters.items())}")
    columns = [("clean", test)]
    broken = {}
    for attack, (function, budgets) in ATTACKS.items():
        broken[attack] = breaking(logits, test, attack)[0]
        at = budgets.index(broken[attack])
        for budget in sorted({budgets[max(at - 2, 0)], budgets[max(at - 1, 0)], budgets[at]}):
            columns.append((f"{attack} {budget:g}", function(plain_slope(logits), test, budget)))
    print(f"{'':38s}" + "".join(f"{column:>14s}" for column, _ in columns))
    found = {}
    for defence, (head, function) in defences.items():
        found[defence] = [accuracy(head, function, cells) for _, cells in columns]
        print(f"{defence:38s}" + "".join(f"{value:14.3f}" for value in found[defence]), flush=True)
    clean = found["none"][0]
    for defence in ("scdae", "scdae, trained on purified"):
        lost = clean - found[defence][0]
        at_broken = {
            column: value / clean
            for (column, _), value, plain in zip(columns, found[defence], found["none"], strict=True)
            if plain < BROKEN
        }
        shares = ", ".join(f"{column} {share:.0%}" for column, share in at_broken.items()) or "none was broken"
        print(f"{defence}: clean accuracy falls by {100 * lost:.1f} points; of the clean accuracy are left at {shares}")
    adaptive(logits, on_purified, shielded, model, parameters, test.take(slice(ADAPTIVE)), broken, dict(columns))


def purifiers(model: scdae.DAE, all_cells: list[Cells]) -> dict[str, Callable[[Cells], Cells]]:
    """Every choice of parameters, named by its place in the grid and its strength; projections are worked out once."""
    known: dict[tuple[int, int], np.ndarray] = {}

    def projected(place: int, cells: Cells) -> np.ndarray:
        key = place, id(cells)
        if key not in known:
            known[key] = purifier(model, 1.0, **GRID[place])(cells).logs
        return known[key]

    def mixed(place: int, strength: float) -> Callable[[Cells], Cells]:
        return lambda cells: replace(cells, logs=strength * projected(place, cells) + (1 - strength) * cells.logs)

    return {f"{place} {strength}": mixed(place, strength) for place in range(len(GRID)) for strength in STRENGTHS}


def adaptive(
    logits: Logits,
    on_purified: Logits,
    shielded: Callable,
    model: scdae.DAE,
    parameters: dict[str, Any],
    cells: Cells,
    broken: dict[str, float],
    plain: dict[str, Cells],
) -> None:
    """The attack that takes gradients through the purifier; a cell counts as right if it withstands this and the plain one."""
    how = Purification(**parameters)
    print(
        f"Attack through the purifier, on {len(cells.labels)} of these cells: adaptive, and the worse of it and the plain attack"
    )
    for attack in ("PGD", "molecules"):
        function, budgets = ATTACKS[attack]
        at = budgets.index(broken[attack])
        for budget in sorted({budgets[max(at - 2, 0)], budgets[at]}):
            before = plain[f"{attack} {budget:g}"].take(slice(len(cells.labels)))
            line = f"{attack + f' {budget:g}':16s} none {right(logits, before).mean():.3f}"
            for label, head in (("scdae", logits), ("trained on purified", on_purified)):
                slope = adaptive_slope(head, model.outcome.fitted, how)
                options = {"rounds": 5} if attack == "molecules" else {}
                through = right(head, shielded(function(slope, cells, budget, **options)))
                held = right(head, shielded(before))
                line += f" | {label}: plain {held.mean():.3f}, adaptive {through.mean():.3f}, worse {(through & held).mean():.3f}"
            print(line, flush=True)
