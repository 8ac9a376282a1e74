"""Several data sets as one: the union of their genes, their columns of obs below one another, and whose each cell is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from scdae._log import get_logger
from scdae.arguments.names import names_of_genes

__all__ = ["joint_obs", "union_of_genes"]


def union_of_genes(several: Sequence[pd.Index], names: Sequence[str], what: str) -> pd.Index:
    """Return all genes, in the order in which they come first.

    Parameters
    ----------
    several
        Gene names of each data set.
    names
        Names of the data sets.
    what
        What they are called together, for the error: "data sets" or "files".

    Raises
    ------
    ValueError
        Names are missing or repeated in one of them, or no gene is in all of them.
    """
    for name, genes in zip(names, several, strict=True):
        names_of_genes(genes, repr(name))
        if not genes.is_unique:
            twice = genes[genes.duplicated()].unique()
            raise ValueError(
                f"{name!r} repeats gene names: {len(twice):,}, the first being {str(twice[0])!r}. Make them unique "
                "(adata.var_names_make_unique()) first."
            )
    if not set.intersection(*map(set, several)):
        first = {name: str(genes[0]) for name, genes in zip(names, several, strict=True) if len(genes)}
        raise ValueError(f"The {what} share no gene. Their names look different: {first}.")
    joint = pd.Index(several[0].astype(object))
    for genes in several[1:]:
        joint = joint.append(pd.Index(genes.astype(object)).difference(joint, sort=False))
    _say_if_spelled_otherwise(joint)
    return pd.Index([str(gene) for gene in joint])


def _say_if_spelled_otherwise(joint: pd.Index) -> None:
    alike = Counter(str(gene).casefold() for gene in joint)
    twice = [str(gene) for gene in joint if alike[str(gene).casefold()] > 1]
    if twice:
        other = next(gene for gene in twice[1:] if gene.casefold() == twice[0].casefold())
        get_logger().warning(
            f"scdae: {len(twice):,} gene names differ by nothing but case, such as {twice[0]!r} and {other!r}, and count as "
            "different genes, each not observed where the other one is. Spell them alike first if they are the same."
        )


def joint_obs(
    tables: Sequence[pd.DataFrame], names: Sequence[str], label: str, *, everything: bool, what: str
) -> pd.DataFrame:
    """Columns of `obs` below one another, with a column that says whose each cell is.

    A column that the data have under that name already is kept under another one, and that is said.

    Parameters
    ----------
    tables
        `obs` of each data set.
    names
        Names of the data sets, which become categories of the new column and the ends of the cells' names.
    label
        Name of the new column.
    everything
        Whether columns that some lack are kept, with missing values; else those that all have.
    what
        What a data set is called, for the message.
    """
    for name, table in zip(names, tables, strict=True):
        twice = table.columns[table.columns.duplicated()]
        if len(twice):
            raise ValueError(f"{name!r}: obs has more than one column {str(twice[0])!r}. Rename all but one.")
    owners = [name for name, table in zip(names, tables, strict=True) if label in table]
    if owners:
        own = f"{label}_own"
        while any(own in table for table in tables):
            own += "_own"
        tables = [table.rename(columns={label: own}) for table in tables]
        shown = ", ".join(map(repr, owners[:5])) + (", ..." if len(owners) > 5 else "")
        get_logger().warning(
            f"scdae: obs[{label!r}] names the {what} of each cell; the column of this name that {shown} had is kept as "
            f"obs[{own!r}]. Pass another label= to name them otherwise."
        )
        if not everything and len(owners) < len(names):
            tables = [table if own in table else table.assign(**{own: None}) for table in tables]
    kept = list(dict.fromkeys(column for table in tables for column in table))
    if not everything:
        kept = [column for column in kept if all(column in table for table in tables)]
    sizes = [len(table) for table in tables]
    joint = pd.DataFrame(
        {column: _joint_column([table.get(column) for table in tables], sizes) for column in kept},
        index=[f"{cell}-{name}" for name, table in zip(names, tables, strict=True) for cell in table.index],
    )
    joint[label] = pd.Categorical(np.repeat(np.asarray(names, dtype=object), sizes), categories=list(names))
    return joint


def _joint_column(
    parts: Sequence[pd.Series | None], sizes: Sequence[int]
) -> np.ndarray | pd.api.extensions.ExtensionArray:
    """Values below one another: categories are united, kinds that do not go together become text."""
    present = [part for part in parts if part is not None]
    categorical = [isinstance(part.dtype, pd.CategoricalDtype) for part in present]
    if all(categorical):
        kinds = [part.cat.categories for part in present]
        united = kinds[0]
        for more in kinds[1:]:
            united = united.append(more.difference(united, sort=False))
        ordered = all(part.cat.ordered and part.cat.categories.equals(united) for part in present)
        dtype = pd.CategoricalDtype(united, ordered)
        full = [
            pd.Series(pd.Categorical([None] * size, dtype=dtype)) if part is None else part.astype(dtype)
            for part, size in zip(parts, sizes, strict=True)
        ]
        return pd.concat(full, ignore_index=True).array
    plain = [part.astype(object) if is_one else part for part, is_one in zip(present, categorical, strict=True)]
    if len(present) < len(parts):
        rest = iter(plain)
        plain = [
            pd.Series([np.nan] * n, dtype=object) if p is None else next(rest)
            for p, n in zip(parts, sizes, strict=True)
        ]
    joint = pd.concat(plain, ignore_index=True)
    if joint.dtype == object:
        joint = joint.infer_objects()
    if joint.dtype == object and pd.api.types.infer_dtype(joint, skipna=True).startswith("mixed"):
        joint = joint.map(str, na_action="ignore")
    return joint.array
