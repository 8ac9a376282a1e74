"""Results as pandas objects that show what matters, and columns that have had other names."""

from __future__ import annotations

import textwrap
import warnings
from typing import Any

import pandas as pd

__all__ = ["RENAMED", "RankedGenes", "RunReport"]

RENAMED = {"pvals": "prob_no_change", "pvals_adj": "expected_fdr"}  # of the table of ranked genes
_WIDTH = 88


class RunReport(pd.Series):
    """A Series of which the verdict is shown first, and whole, where pandas would cut it."""

    @property
    def _constructor(self) -> Any:
        return pd.Series

    def __repr__(self) -> str:
        if "verdict" not in self.index:
            return super().__repr__()
        words = textwrap.fill(str(self["verdict"]), _WIDTH)
        return f"{words}\n\n{pd.Series(self).drop('verdict')!r}"

    __str__ = __repr__


class RankedGenes(pd.DataFrame):
    """A table of which two columns are still found by the names that they had, with a warning."""

    @property
    def _constructor(self) -> Any:
        return RankedGenes

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(_new_names(key, self.columns))


def _new_names(key: Any, columns: pd.Index) -> Any:
    """Return a column, or several, by the names that they have now."""
    if isinstance(key, list):
        return [_new_names(one, columns) for one in key]
    if not isinstance(key, str) or key not in RENAMED or key in columns:
        return key
    new = RENAMED[key]
    warnings.warn(
        f"The column {key!r} of scdae.get.rank_genes is now {new!r}, since it holds no p-values; the old name goes with the "
        "next version.",
        FutureWarning,
        stacklevel=3,
    )
    return new
