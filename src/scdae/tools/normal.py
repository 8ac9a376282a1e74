"""The cells that others are compared with, from what the user named as normal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scdae.arguments.by_name import by_name
from scdae.arguments.objects import listed, nearest

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["NormalCells", "check_enough", "errors_of_normal"]

_LEAST = 20  # normal cells to compare with
_TRAINED = 0.7  # share of the normal cells that a model is fitted to; the others calibrate


@dataclass(frozen=True)
class NormalCells:
    """Cells that others are compared with."""

    rows: np.ndarray  # int: those of the data themselves, without those that a model is fitted to
    named: np.ndarray  # bool (n_obs,): cells named as normal
    others: AnnData | None  # cells of another object
    trained: np.ndarray | None  # int: rows that a model is to be fitted to
    words: str

    @property
    def known(self) -> bool:
        """Whether any cell is known to be normal."""
        return self.others is not None or bool(self.named.any())

    @classmethod
    def of(cls, normal: Any, adata: AnnData, mask: Any, *, fit_here: bool, seed: int) -> NormalCells:
        """Read the normal cells from the argument `normal`."""
        no_cells = np.zeros(adata.n_obs, bool)
        if normal is None:
            check_enough(adata.n_obs, "adata has")
            return cls(np.arange(adata.n_obs), no_cells, None, None, "all cells, with one another")
        if isinstance(normal, AnnData):
            if fit_here:
                raise ValueError("normal= is another AnnData, so model= has to be one that was fitted. Pass it.")
            if mask is not None and not isinstance(mask, str):
                raise ValueError(
                    "normal= is another AnnData: mask has to be the name of a layer that both have, or None."
                )
            check_enough(normal.n_obs, "normal has")
            return cls(np.zeros(0, int), no_cells, normal, None, "normal cells of another object")
        named = _boolean(normal, adata)
        rows = np.flatnonzero(named)
        what = f"obs[{normal!r}]" if isinstance(normal, str) else "cells marked in normal="
        if not fit_here:
            check_enough(len(rows), "normal names")
            return cls(rows, named, None, None, what)
        order = np.random.default_rng([seed, 5]).permutation(rows)
        n_trained = int(_TRAINED * len(order))
        check_enough(len(order) - n_trained, f"normal names {len(order):,} cells, and three tenths of them are")
        return cls(np.sort(order[n_trained:]), named, None, np.sort(order[:n_trained]), what)


def _boolean(normal: Any, adata: AnnData) -> np.ndarray:
    """Read the marks of the cells from a column, an array, or a Series, which is matched by its names."""
    if isinstance(normal, str):
        if normal not in adata.obs.columns:
            raise ValueError(
                f"normal={normal!r} not found in adata.obs. Columns here: {listed(adata.obs.columns)}."
                f"{nearest(normal, adata.obs.columns)}"
            )
        given, what = adata.obs[normal], f"obs[{normal!r}]"
        if given.ndim != 1:
            raise ValueError(f"normal={normal!r}: obs has {given.shape[1]} columns of this name. Rename all but one.")
    else:
        given, what = normal, "normal"
    marks = np.asarray(by_name(given, adata.obs_names, what))
    if marks.shape != (adata.n_obs,):
        raise ValueError(
            f"{what} has shape {marks.shape}: it has to be True or False for each of the {adata.n_obs:,} cells. Of names "
            "make marks with adata.obs_names.isin(names)."
        )
    missing = np.asarray(pd.isna(marks))
    if missing.any():
        raise ValueError(
            f"{what} has no value in {int(missing.sum()):,} of {adata.n_obs:,} cells, the first being "
            f"{str(adata.obs_names[np.flatnonzero(missing)[0]])!r}, and has to be True or False for each. Leave these cells "
            "out, or count them as not normal with .fillna(False)."
        )
    flags = marks if marks.dtype.kind in "biuf" else np.array([_as_mark(mark) for mark in marks])
    wrong = np.flatnonzero(~np.isin(flags, [0, 1]))
    if len(wrong):
        raise ValueError(
            f"{what} has to be True or False for each of the {adata.n_obs:,} cells, but {len(wrong):,} have other values, the first "
            f"being {str(adata.obs_names[wrong[0]])!r} with {marks[wrong[0]]!r}. Compare with what normal cells have, such as "
            "adata.obs['kind'] == 'normal'."
        )
    return flags.astype(bool)


def _as_mark(value: Any) -> float:
    """Return 1 for True, 0 for False, and 2 for anything else, such as text."""
    return float(value) if isinstance(value, (Real, np.bool_)) and value in (0, 1) else 2.0


@contextmanager
def errors_of_normal() -> Iterator[None]:
    """Prefix errors about the other object with `normal`, the argument that it came from."""
    try:
        yield
    except TypeError as error:
        raise TypeError(f"normal: {error}") from error
    except ValueError as error:
        raise ValueError(f"normal: {error}") from error


def check_enough(number: int, what: str) -> None:
    """Raise ValueError unless there are enough normal cells; `what` says whose they are."""
    if number < _LEAST:
        raise ValueError(f"{what} {number:,} cells to compare with, and at least {_LEAST} are needed.")
