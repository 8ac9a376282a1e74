"""Cells and classifiers of the shield's benchmark.

Three parts of the cells: the model and the classifiers are fitted to the first, parameters of all defenses are chosen
on the second, and the third is attacked and reported. Profiles are log1p of counts per 10,000 of the genes that vary
most.
"""

from collections.abc import Callable
from dataclasses import dataclass
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

from scdae.core.guard.purification import counts_of_logs
from scdae.core.network.encoder_input import TARGET

GENES = 3000
SETS = {
    "pbmc_facs, 5 types": ("pbmc_facs", "subpop"),
    "pbmc3k, 8 types": ("pbmc3k", "cell_type"),
    "pbmc_facs, 10 populations": ("pbmc_facs", "facs_celltype"),
}


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


def load(shared: Path, name: str, n_genes: int = GENES, seed: int = 0) -> tuple[ad.AnnData, list[Cells]]:
    """Counts of the training cells, and the three parts: 60 % to train, 16 % to validate, 24 % to test."""
    file, column = SETS[name]
    adata = ad.read_h5ad(shared / f"data/{file}.h5ad")
    adata = adata[adata.obs[column].astype(str) != "filtered_out"]
    strata = adata.obs["facs_celltype" if file == "pbmc_facs" else column].astype(str).to_numpy()
    train, rest = train_test_split(np.arange(adata.n_obs), test_size=0.4, stratify=strata, random_state=seed)
    validate, test = train_test_split(rest, test_size=0.6, stratify=strata[rest], random_state=seed)
    labels = np.unique(adata.obs[column].astype(str), return_inverse=True)[1]
    counts = adata.X.toarray().astype(np.float32)
    vary = of_counts(counts[train], labels[train]).logs.var(axis=0)
    genes = np.sort(np.argsort(-vary)[:n_genes])
    counts = counts[:, genes]
    known = ad.AnnData(sp.csr_matrix(counts[train]), var=adata.var[[]].iloc[genes])
    cells = of_counts(counts, labels)
    return known, [cells.take(part) for part in (train, validate, test)]


# classifiers: a function from profiles to logits that JAX differentiates

Logits = Callable[[jax.Array], jax.Array]


def logistic(cells: Cells, validation: Cells) -> Logits:
    """scikit-learn's logistic regression, with the penalty that serves best on validation cells.

    Profiles without zeros go in on their 100 principal axes, which saves time; the rest of their variance is next to
    none.
    """
    axes = None
    logs: Any = sp.csr_matrix(cells.logs)
    if (cells.logs > 0).mean() > 0.5:
        axes = PCA(100, random_state=0).fit(cells.logs)
        logs = axes.transform(cells.logs)
    found = []
    for penalty in (0.01, 0.1, 1.0):
        model = LogisticRegression(C=penalty, max_iter=1000).fit(logs, cells.labels)
        kernel, bias = model.coef_.T, model.intercept_
        if axes is not None:
            kernel = axes.components_.T @ kernel
            bias = bias - axes.mean_ @ kernel
        found.append(_linear(jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32)))
    return max(found, key=lambda logits: right(logits, validation).mean())


def _linear(kernel: jax.Array, bias: jax.Array) -> Logits:
    return jax.jit(lambda logs: logs @ kernel + bias)


def perceptron(cells: Cells, validation: Cells, n_hidden: int = 64, epochs: int = 15, batch: int = 128) -> Logits:
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
