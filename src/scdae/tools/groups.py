"""Groups of cells: a column of `obs` in which every cell is in one of several, or in none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scdae.matrices.obs_columns import read_batches

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["read_groups"]


def read_groups(adata: AnnData, groupby: str) -> tuple[np.ndarray, list[str]]:
    """Return the group of each cell, int32 (n_obs,) with -1 for none, and the names of the groups.

    Raises
    ------
    ValueError, TypeError
        There is no such column, all its values are missing, it has one group only, or a group without a name.
    """
    codes, levels = read_batches(adata, groupby, "groupby", gaps=True)
    if not levels:
        raise ValueError(f"groupby={groupby!r}: obs[{groupby!r}] has no value in any cell. Name a column with groups.")
    if len(levels) < 2:
        raise ValueError(f"groupby={groupby!r}: there is one group only, {levels[0]!r}. Comparing needs two.")
    if "" in levels:
        raise ValueError(
            f"groupby={groupby!r}: {int((codes == levels.index('')).sum()):,} cells have an empty name for their group. Name it, "
            "or make it missing (None), so that they are left out."
        )
    return codes, levels
