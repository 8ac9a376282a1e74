"""Draws from the posterior, as layers or one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae.arguments.names import check_name
from scdae.arguments.objects import check_adata, check_settings, spelled
from scdae.core.runtime.own_switches import own_switches
from scdae.inputs.options import DataOptions
from scdae.model import DAE
from scdae.model.options import log_layer_size
from scdae.model.posterior import Posterior
from scdae.outputs.slots import check_free, writing_to
from scdae.tools.model import fitted_model

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["sample"]


@spelled
@own_switches
def sample(
    adata: AnnData,
    model: DAE | None = None,
    *,
    n: int = 1,
    key_added: str | None = None,
    genes: Any = None,
    cells: Any = None,
    layer: str | None = None,
    mask: Any = None,
    batch_key: str | None = None,
    covariates: str | Sequence[str] | None = None,
    seed: int = 0,
    allow_fractional: bool = False,
    allow_nan: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> Iterator[np.ndarray] | None:
    """Draw expected counts from their posterior.

    What is computed from each draw, computed for many, shows how far the counts determine it: a ranking of cells, a
    correlation, a cluster.

    Parameters
    ----------
    adata
        Raw counts, as for :func:`scdae.pp.impute`.
    model
        A fitted :class:`scdae.DAE`; None: one is fitted.
    n
        Number of draws.
    key_added
        Write the draws to ``layers[key_added + "_0"]`` and so on. None: nothing is written, and they are returned one
        at a time.
    genes, cells
        What to draw for: names, positions, a slice, or a boolean array or Series; all when left out. Layers are of all.
    layer, mask, batch_key, covariates, allow_fractional, allow_nan
        As for :func:`scdae.pp.impute`.
    seed
        Seed of the draws, and of the fit where there is one. The first draws are the same whatever `n`.
    overwrite
        Replace layers of these names that this function did not write.
    **settings
        Settings of the model to fit.

    Returns
    -------
    iterator of numpy.ndarray, or None
        float32 (n_cells, n_genes) each, counts at the cell's own depth. Only one draw is held at a time.

    Raises
    ------
    ValueError, TypeError
        The data are not counts or an argument does not fit. Nothing was trained or written.

    Examples
    --------
    >>> import numpy as np
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
    >>> model = scdae.DAE(max_epochs=2).fit(adata)
    >>> r = [np.corrcoef(draw.T)[0, 1] for draw in scdae.tl.sample(adata, model, n=20, genes=["gene_1", "gene_2"])]
    >>> len(r)
    20
    """
    check_adata(adata)
    check_settings(sample, settings, seed)
    if n < 1:
        raise ValueError(f"n={n!r}: ask for one draw at least.")
    names = tuple(f"{key_added}_{i}" for i in range(n))
    if key_added is not None:
        check_name(key_added, "key_added")
        if genes is not None or cells is not None:
            raise ValueError("genes= and cells= are for draws that are returned. Leave key_added out, or these.")
        check_free(adata, {"layers": names}, key_added, "scdae.tl.sample", overwrite=overwrite)
    data = DataOptions(layer, mask, batch_key, covariates, allow_fractional, allow_nan)
    model = fitted_model(adata, model, settings, seed=seed, data=data)
    if key_added is None:
        posterior = model.posterior(adata, genes=genes, cells=cells, **data.counts)
        return posterior.sample(n, seed=seed)
    log_layer_size(adata.shape, n)
    posterior = model.posterior(adata, **data.counts)
    _write(adata, names, key_added, posterior, layer, seed)
    return None


def _write(
    adata: AnnData, names: tuple[str, ...], key: str, posterior: Posterior, layer: str | None, seed: int
) -> None:
    draws = list(posterior.sample(len(names), seed=seed))
    with writing_to(adata):
        for name, draw in zip(names, draws, strict=True):
            adata.layers[name] = draw
        adata.uns[key] = {
            "written_by": "scdae.tl.sample",
            "unit": "one draw of the expected counts at the cell's own depth",
            "layer": layer or "X",
            "n": len(names),
            "seed": seed,
        }
