"""Small data sets and models fitted to them, shared by the tests: a fit is mostly compilation, so each is made once."""

import functools

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from flax import nnx

import scdae
from scdae.core.data.conditions import Conditions

N_OBS, N_VARS = 150, 60


def keep_compiled():
    """Nothing to do any more: `conftest` keeps what the whole run compiles. For calls that are still there."""


@functools.cache
def _structured():
    """Three cell types in two batches, about fourteen molecules an entry; no dropout."""
    return scdae.datasets.simulate(
        N_OBS, N_VARS, n_types=3, trajectory=False, depth=800, dropout=0.0, batch_effect=0.4, dispersion=0.1, seed=0
    )


def structured():
    return _structured().copy()


@functools.cache
def noise():
    """Poisson counts around the gene means: nothing to find."""
    rng = np.random.default_rng(0)
    depth = np.exp(rng.normal(0, 0.4, (N_OBS, 1)))
    mean = depth * rng.gamma(1.0, 3.0, N_VARS)
    return ad.AnnData(sp.csr_matrix(rng.poisson(mean).astype(np.float32)))


@functools.cache
def fitted_to_noise():
    """Model of the noise; not to be changed."""
    return fit(noise(), likelihood="zinb")


def with_gaps():
    """The structured data with cell 3 and gene 5 empty."""
    counts = dense(_structured()).copy()
    counts[3], counts[:, 5] = 0, 0
    return wrap(sp.csr_matrix(counts))


@functools.cache
def fitted_to_gaps():
    """Model of these; not to be changed."""
    return fit(with_gaps(), likelihood="nb", max_epochs=7)


def wrap(matrix, like=None, **parts):
    like = _structured() if like is None else like
    return ad.AnnData(matrix, obs=like.obs.copy(), var=like.var.copy(), **parts)


def of_levels(*columns, values=()):
    """Conditions with these categorical columns, their levels numbered on, and these continuous ones."""
    n_obs = len((*columns, *values)[0])
    levels, values = np.reshape(columns, (len(columns), n_obs)), np.reshape(values, (len(values), n_obs))
    return Conditions(levels.T.astype(np.int32), values.T.astype(np.float32))


def layers_of(adata):
    """Names of the layers; `X` is one without a name from anndata 0.13 on."""
    return sorted(name for name in adata.layers if name is not None)


def dense(adata):
    return np.asarray(adata.X.toarray() if sp.issparse(adata.X) else adata.X)


def fit(adata=None, *, layer=None, mask=None, batch_key=None, covariates=None, allow_nan=False, **settings):
    adata = structured() if adata is None else adata
    model = scdae.DAE(**{"max_epochs": 40, "batch_size": 64, "n_latent": 10, **settings})
    return model.fit(adata, layer=layer, mask=mask, batch_key=batch_key, covariates=covariates, allow_nan=allow_nan)


@functools.cache
def fitted(batch_key=None, **settings):
    """Model of the structured data; not to be changed."""
    return fit(batch_key=batch_key, **settings)


@functools.cache
def _covaried():
    """The structured data with four donors, of which the second has one cell and the third is no one's, and an age."""
    adata = structured()
    rng = np.random.default_rng(7)
    donor = np.where(rng.random(N_OBS) < 0.5, "ann", "dan")
    donor[11] = "bob"
    adata.obs["donor"] = pd.Categorical(donor, categories=["dan", "bob", "cyd", "ann"])
    adata.obs["age"] = rng.integers(20, 80, N_OBS)
    adata.obs["smokes"] = rng.random(N_OBS) < 0.4
    return adata


def covaried():
    return _covaried().copy()


@functools.cache
def fitted_to_covariates():
    """Model of these, with batches, a categorical and a continuous covariate; not to be changed."""
    return fit(covaried(), batch_key="batch", covariates=["donor", "age"], likelihood="nb", max_epochs=7)


def bits(model):
    """All that a model is, as bytes."""
    outcome = model.outcome
    arrays = {name: np.asarray(value) for name, value in nnx.to_pure_dict(outcome.fitted.params).items()}
    arrays |= {"inflated": outcome.fitted.inflated, "weight": outcome.fitted.axes.weight, "gate": outcome.gate}
    arrays["gain"] = outcome.report.gene_gain
    numbers = {**outcome.history, "n_epochs": outcome.n_epochs, "stopped": outcome.stopped_early}
    return {name: array.tobytes() for name, array in arrays.items()} | numbers


@functools.cache
def zero_inflated(pi):
    """Forty genes of mean eight in two kinds of cells; a quarter of them lose `pi` of their entries."""
    rng = np.random.default_rng(1)
    n_obs, n_vars = 400, 40
    fold = np.ones((2, n_vars))
    fold[1, :8] = 2.5
    mean = rng.gamma(8, 1, n_vars) * fold[rng.integers(0, 2, n_obs)] * np.exp(rng.normal(0, 0.2, (n_obs, 1)))
    counts = rng.poisson(mean * rng.gamma(5, 1 / 5, mean.shape))
    lossy = np.arange(n_vars) % 4 == 0
    lost = (rng.random(mean.shape) < pi) & lossy
    return np.where(lost, 0, counts).astype(np.float32), lossy


def family(n=30, length=700, seed=0):
    """Copies of a random gene in which a twentieth of the letters differ, without up to twenty letters at each end."""
    rng = np.random.default_rng(seed)
    gene = rng.integers(0, 4, length).astype(np.int8)
    found = []
    for _ in range(n):
        hit = rng.random(length) < 0.05
        start, stop = rng.integers(0, 20, 2)
        found.append((np.where(hit, (gene + 1) % 4, gene).astype(np.int8)[start : length - stop], int(start)))
    return found
