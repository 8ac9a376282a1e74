"""Small data sets and models fitted to them, shared by the tests: a fit is mostly compilation, so each is made once."""

import functools
import tempfile

import anndata as ad
import jax
import numpy as np
import scipy.sparse as sp

import scdae

N_OBS, N_VARS = 150, 60


@functools.cache
def keep_compiled():
    """Keep compiled programs for the rest of the run, so that a second fit to data of the same shape is quick."""
    folder = tempfile.TemporaryDirectory(prefix="scdae-compiled-")
    jax.config.update("jax_compilation_cache_dir", folder.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


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


def dense(adata):
    return np.asarray(adata.X.toarray() if sp.issparse(adata.X) else adata.X)


def fit(adata=None, *, layer=None, mask=None, batch_key=None, allow_nan=False, **settings):
    keep_compiled()
    adata = structured() if adata is None else adata
    model = scdae.DAE(**{"max_epochs": 40, "batch_size": 64, "n_latent": 10, **settings})
    return model.fit(adata, layer=layer, mask=mask, batch_key=batch_key, allow_nan=allow_nan)


@functools.cache
def fitted(batch_key=None, **settings):
    """Model of the structured data; not to be changed."""
    return fit(batch_key=batch_key, **settings)
