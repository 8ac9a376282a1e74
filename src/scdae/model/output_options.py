"""What a caller wants back, as one object that was checked: which scale, at which depth, which quantiles, in which form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae.arguments.numbers import check_form
from scdae.model.options import check_depth, check_outputs, check_quantiles

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["OutputOptions"]


@dataclass(frozen=True)
class OutputOptions:
    """The five arguments that describe the output, as :func:`scdae.pp.impute` explains them.

    Parameters
    ----------
    outputs
        Scales of the layers; that of the main layer comes first.
    depth
        Molecules of the new measurement, float32 (n_obs,), or None.
    quantiles
        Probabilities.
    lazy
        Whether layers are computed on access; None where they would not fit into memory.
    threshold
        Value below which nothing is kept, or None.
    """

    outputs: tuple[str, ...] = ("mean",)
    depth: np.ndarray | None = None
    quantiles: tuple[float, ...] = ()
    lazy: bool | None = None
    threshold: float | None = None

    @staticmethod
    def checked(
        adata: AnnData,
        output: str | Sequence[str],
        depth: Any,
        quantiles: float | Sequence[float],
        lazy: bool | None,
        threshold: float | None,
    ) -> OutputOptions:
        """Return the options, or a ValueError that says what is wrong with one."""
        outputs = check_outputs(output)
        check_form(threshold, np.float32)
        chances = check_quantiles(quantiles)
        return OutputOptions(outputs, check_depth(depth, output, adata.obs_names), chances, lazy, threshold)

    @property
    def n_layers(self) -> int:
        """Layers that are written."""
        return len(self.outputs) + len(self.quantiles)
