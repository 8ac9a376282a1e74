"""Split the molecules of an AnnData into two independent halves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from scdae.arguments.numbers import check_seed, real_number
from scdae.arguments.objects import check_adata, spelled
from scdae.core.data.thinning import thin as thin_matrix
from scdae.inputs.counts import read_counts

if TYPE_CHECKING:
    from anndata import AnnData


__all__ = ["thin"]


@spelled
def thin(
    adata: AnnData, fraction: float = 0.9, *, layer: str | None = None, seed: int = 0, allow_fractional: bool = False
) -> tuple[AnnData, AnnData]:
    """Split the counts into two data sets that are independent given the true expression.

    Each molecule goes to the first with probability `fraction` and to the second otherwise (binomial thinning). What is
    learned from the first can be judged by the second: molecular cross-validation
    :cite:p:`Batson2019`.

    Parameters
    ----------
    adata
        Raw counts; not changed.
    fraction
        Share of the molecules for the first, between 0 and 1.
    layer
        Layer with the counts; None for `X`.
    seed
        Seed of the split.
    allow_fractional
        Admit counts that are not whole numbers; the fractional part of each goes to one of the two at random.

    Returns
    -------
    tuple of anndata.AnnData
        Two objects with the counts in `X` (float32 CSR) and copies of `obs` and `var`.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
    >>> train, test = scdae.pp.thin(adata, 0.9)
    >>> bool(((train.X + test.X) != adata.X).nnz == 0)
    True
    """
    check_adata(adata)
    wanted = "a fraction between 0 and 1, such as 0.9"
    if not 0 < real_number("fraction", fraction, wanted) < 1:
        raise ValueError(f"fraction={fraction!r}: use {wanted}.")
    rng = np.random.default_rng(check_seed(seed))
    counts = read_counts(adata, layer=layer, allow_fractional=allow_fractional)
    parts = thin_matrix(counts.matrix, fraction, rng)
    first, second = (AnnData(part, obs=adata.obs.copy(), var=adata.var.copy()) for part in parts)
    return first, second
