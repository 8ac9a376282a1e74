"""What goes into a layer: which scale, at which depth, how large it gets, and genes in the order of the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae._log import get_logger
from scdae.arguments.by_name import by_name
from scdae.core.prediction.decode import OUTPUTS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["InPlace", "check_depth", "check_outputs", "check_quantiles", "depths", "log_layer_size"]


class InPlace:
    """An array in the order of a query's genes, filled from values in the order of the network's.

    Genes that had no counts in the fit stay zero, until :class:`scdae.inputs.silent.OwnCounts` fills them in; those
    that the model does not know are NaN.
    """

    def __init__(self, n_obs: int, columns: np.ndarray, known: np.ndarray):
        self.array = np.zeros((n_obs, len(known)), np.float32)
        self.array[:, ~known] = np.nan
        self._present, self._columns = columns >= 0, columns
        self._in_place = bool(self._present.all()) and np.array_equal(columns, np.arange(len(known)))

    def put(self, rows: slice, part: np.ndarray) -> None:
        """Fill some cells with values of float32 (n_rows, n_kept)."""
        if self._in_place:
            self.array[rows] = part
        else:
            self.array[rows, self._columns[self._present]] = part[:, self._present]


def check_outputs(output: str | Sequence[str]) -> tuple[str, ...]:
    """Outputs in the order given; a ValueError that says what is wrong with one, and names those there are."""
    if isinstance(output, (set, frozenset)):
        raise ValueError(f"output={output!r} has no order. Pass a tuple: its first output is that of the main layer.")
    outputs = (output,) if isinstance(output, str) or not isinstance(output, Iterable) else tuple(output)
    known = ", ".join(map(repr, OUTPUTS))
    if not outputs:
        raise ValueError(f"output={output!r} is empty: choose one of {known}, or several.")
    wrong = [name for name in outputs if not (isinstance(name, str) and name in OUTPUTS)]
    if wrong:
        several = f" (of output={output!r})" if len(outputs) > 1 else ""
        raise ValueError(f"output={wrong[0]!r}{several}: choose one of {known}, or several as a tuple.")
    twice = [name for i, name in enumerate(outputs) if name in outputs[:i]]
    if twice:
        raise ValueError(f"output={output!r} names {twice[0]!r} twice. Name each once.")
    return outputs


def check_depth(depth: Any, output: str | Sequence[str], obs_names: pd.Index) -> np.ndarray | None:
    """Depth of each cell, float32 (n_obs,), or None; a ValueError that says what is wrong with it.

    A Series is taken by its names.
    """
    if depth is None:
        return None
    if output != "log1p" and (isinstance(output, str) or "log1p" not in output):
        shown = repr(depth) if np.ndim(depth) == 0 else f"{type(depth).__name__} of {len(depth):,} values"
        raise ValueError(f"depth={shown} has a meaning for output='log1p' only, but output={output!r}. Leave it out.")
    return depths(depth, obs_names)


def depths(depth: Any, obs_names: pd.Index) -> np.ndarray:
    """Molecules of each cell, float32 (n_obs,): a number for all, one for each, or a Series, which is taken by its names.

    Raises
    ------
    ValueError
        The length is another, names do not fit, or a value is missing or not above 0.
    """
    n_obs, given = len(obs_names), by_name(depth, obs_names, "depth")
    try:
        values = np.asarray(given, dtype=np.float32)
    except (ValueError, TypeError):
        raise ValueError(
            f"depth={given!r}: use a number of molecules, or one for each cell, such as adata.obs['total_counts']."
            if np.ndim(given) == 0
            else f"depth holds {np.asarray(given).dtype} values. Use numbers of molecules."
        ) from None
    if values.shape not in ((), (n_obs,)):
        raise ValueError(f"depth has shape {values.shape}: give one number, or one for each of the {n_obs:,} cells.")
    wrong = ~(np.isfinite(values) & (values > 0))
    if wrong.any():
        where = "" if values.ndim == 0 else f", cell {str(obs_names[np.flatnonzero(wrong)[0]])!r}"
        raise ValueError(
            f"depth must be a positive number of molecules, but {int(wrong.sum()):,} of {values.size:,} are not (the first: "
            f"{values[wrong].flat[0]}{where}). For a cell's own depth leave depth= out."
        )
    return np.broadcast_to(values, (n_obs,))


def check_quantiles(quantiles: Any) -> tuple[float, ...]:
    """Probabilities, in the order given; a ValueError that says what is wrong with one."""
    values = np.atleast_1d(np.asarray(quantiles, dtype=np.float64))
    wrong = ~((values > 0) & (values < 1))
    if wrong.any():
        raise ValueError(
            f"quantiles must lie between 0 and 1, but {int(wrong.sum())} of {values.size} do not (the first: "
            f"{values[wrong][0]}). Give probabilities, such as (0.05, 0.95)."
        )
    return tuple(map(float, values))


def log_layer_size(shape: tuple[int, int], n_layers: int = 1) -> None:
    """Say what dense layers will take."""
    size = 4 * n_layers * shape[0] * shape[1] / 2**20
    amount = f"{size:,.0f} MiB" if size >= 1 else "less than 1 MiB"
    what = "output layer" if n_layers == 1 else f"{n_layers} output layers"
    verb = "takes" if n_layers == 1 else "take"
    get_logger().info(f"scdae: the {what} of {shape[0]:,} x {shape[1]:,} float32 {verb} {amount}.")
