"""The model that a tool works with: the one given, or one that is fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scdae.inputs.counts import open_counts
from scdae.inputs.covariates import read_covariates
from scdae.inputs.options import DataOptions
from scdae.model import DAE
from scdae.model.known_fits import fit_once

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["fitted_model"]


def fitted_model(
    adata: AnnData,
    model: DAE | None,
    settings: dict[str, Any],
    *,
    seed: int,
    data: DataOptions,
) -> DAE:
    """Return `model`, or fit one to `adata` with these settings where it is None.

    Raises
    ------
    TypeError
        `model` is something else.
    ValueError
        It is not fitted, or settings of a fit are given beside it.
    """
    if model is None:
        counts = open_counts(adata, **data.counts)
        columns, conditions = read_covariates(adata, **data.columns)
        return fit_once(DAE(seed=seed, **settings), counts, columns, conditions)
    if not isinstance(model, DAE):
        raise TypeError(
            f"model must be a fitted scdae.DAE, got {type(model).__name__}. Read a saved one with scdae.DAE.load(path)."
        )
    given = [*settings, *(name for name, value in data.columns.items() if value is not None)]
    if given:
        raise ValueError(f"{given[0]}=... belongs to the fit and cannot be set together with model=. Leave it out.")
    model.fitted_outcome()
    return model
