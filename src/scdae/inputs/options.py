"""What a caller says of the data, as one object: where the counts are, what was observed, and which columns act on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae.inputs.mask import mask_of_rows

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["DataOptions"]


@dataclass(frozen=True)
class DataOptions:
    """The six arguments that describe the data, as :meth:`scdae.DAE.fit` explains them."""

    layer: str | None = None
    mask: Any = None
    batch_key: str | None = None
    covariates: str | Sequence[str] | None = None
    allow_fractional: bool = False
    allow_nan: bool = False

    @property
    def counts(self) -> dict[str, Any]:
        """Arguments of :func:`scdae.inputs.counts.read_counts` and its kin."""
        return {
            "layer": self.layer,
            "mask": self.mask,
            "allow_fractional": self.allow_fractional,
            "allow_nan": self.allow_nan,
        }

    @property
    def columns(self) -> dict[str, Any]:
        """Arguments of :func:`scdae.inputs.covariates.read_covariates`."""
        return {"batch_key": self.batch_key, "covariates": self.covariates}

    def of_rows(self, rows: np.ndarray, adata: AnnData) -> DataOptions:
        """Return the same for the cells of `adata` in `rows`: the mask, too, is that of these cells."""
        return replace(self, mask=mask_of_rows(self.mask, rows, adata))
