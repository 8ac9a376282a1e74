"""Colors of cells by a column of `obs` or by a gene, as scanpy gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scdae.matrices.annotation import obs_column

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["colors_of_groups", "groups_or_values"]


def groups_or_values(adata: AnnData, name: str) -> tuple[pd.Categorical | None, np.ndarray | None]:
    """Groups of the cells by a column of `obs`, or its numbers where it has numbers; one of the two is None.

    Text, booleans and categories are groups.
    """
    column = obs_column(adata, name)
    is_number = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
    if is_number and not isinstance(column.dtype, pd.CategoricalDtype):
        return None, column.to_numpy(np.float64, na_value=np.nan)
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.remove_unused_categories().array, None
    return pd.Categorical(column.astype(str).where(column.notna())), None


def colors_of_groups(adata: AnnData, name: str, groups: pd.Categorical) -> dict[Any, Any]:
    """Colors of groups: those in ``uns[name + "_colors"]`` where there is one for each category, else scanpy's."""
    from matplotlib import rcParams
    from scanpy.plotting import palettes

    names = list(groups.categories)
    column = obs_column(adata, name)
    everything = list(column.cat.categories) if isinstance(column.dtype, pd.CategoricalDtype) else names
    stored = adata.uns.get(f"{name}_colors")
    if stored is not None and len(stored) >= len(everything):
        colors = dict(zip(everything, map(str, stored), strict=False))
    else:
        n = len(everything)
        cycle = rcParams["axes.prop_cycle"].by_key().get("color", [])
        large = palettes.default_20 if n <= 20 else palettes.default_28 if n <= 28 else palettes.default_102
        palette = cycle if n <= len(cycle) else large
        colors = {one: palette[i % len(palette)] for i, one in enumerate(everything)}
    return {one: colors[one] for one in names}
