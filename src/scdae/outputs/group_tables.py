"""What became of groups of cells in an evaluation: as tables, and as lines of a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scdae.arguments.objects import check_adata

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["GROUP_COLUMNS", "MARKER_COLUMNS", "describe_groups", "fidelity"]

_WORDS = ("group", "gene", "markers", "verdict", "words")
GROUP_COLUMNS = (
    *("cells", "markers"),
    *("zeros_in", "zeros_in_low", "zeros_in_high", "zeros_in_seen", "zeros_in_predicted"),
    *("zeros_out", "zeros_out_low", "zeros_out_high", "zeros_out_seen", "zeros_out_predicted"),
    *("decoder_zeros_in", "decoder_zeros_out", "restored_in", "restored_out", "decoder_in", "decoder_out"),
    *("nearest_raw", "nearest_restored", "changed", "left", "verdict", "words"),
)
MARKER_COLUMNS = tuple(f"{name}_{side}" for name in ("raw", "restored", "decoder") for side in ("in", "out"))
_MOST = 40  # groups on a page


def fidelity(adata: AnnData, key: str = "scdae", *, markers: bool = False) -> pd.DataFrame:
    """Return what `scdae.tl.evaluate` found with `groupby`: whether groups of cells come back as they were counted.

    Parameters
    ----------
    adata
        Object that `scdae.tl.evaluate` has been called on with `groupby`.
    key
        The `key` of that call.
    markers
        Give a table of the markers in place of that of the groups.

    Returns
    -------
    DataFrame, one row a group
        Numbers over the markers of the group: up to ten genes that are higher in it than in all other cells, by the
        molecules that the model was shown. ``_in`` is of the cells of the group, ``_out`` of those of other groups.

        ``cells``, ``markers``
            How many cells, and the names of the markers.
        ``zeros_in``, ``zeros_out``
            Molecules predicted over molecules seen, of those set aside, at entries that are zero among those shown. 1
            is right; below 1 inside, zeros are filled too little; above 1 outside, the markers leak into other cells.
        ``zeros_in_low``, ``zeros_in_high``, ``zeros_in_seen``, ``zeros_in_predicted``, and the same with ``out``
            Interval of that ratio, 90 %, and the molecules. Of few molecules the interval is wide, and says nothing.
        ``decoder_zeros_in``, ``decoder_zeros_out``
            The same ratios for ``output="prior"``, which does not know the cell's own count of the gene.
        ``restored_in``, ``restored_out``, ``decoder_in``, ``decoder_out``
            Restored over counted molecules, and for ``output="prior"``.
        ``nearest_raw``, ``nearest_restored``
            Share of the cells that are likelier to be of their group than of any other, by their counts and by what is
            restored. Groups of few cells are not among those compared.
        ``changed``, ``left``
            Fraction of the cells for which another group is likeliest once restored, and fraction of those that leave
            their own so.
        ``verdict``, ``words``
            The same in a word or two, and in a sentence.

        With `markers`, a row for each group and marker: ``raw``, ``restored`` and ``decoder``, in molecules a cell,
        ``_in`` and ``_out``.

    Raises
    ------
    KeyError
        When there is no evaluation of groups under that key.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
    >>> scdae.tl.evaluate(adata, groupby="cell_type", max_epochs=2)
    >>> scdae.get.fidelity(adata)["cells"].sum()
    np.int64(80)
    """
    check_adata(adata)
    entry = _stored(adata, key)
    part = entry["markers" if markers else "groups"]
    index = ["group", "gene"] if markers else ["group"]
    table = pd.DataFrame(
        {name: [str(one) for one in values] if name in _WORDS else np.asarray(values) for name, values in part.items()}
    )
    columns = MARKER_COLUMNS if markers else GROUP_COLUMNS
    return table.set_index(index)[list(columns)]


def describe_groups(adata: AnnData, key: str) -> list[str]:
    """Describe the judged groups on a page: a table, and a sentence for each group that is not as it was counted."""
    entry, table = _stored(adata, key), fidelity(adata, key)
    rows = [("", f"{'cells':>7}  {'zeros inside':>19}  {'zeros outside':>19}  {'restored':>8}  verdict")]
    off = table[~table["verdict"].isin(["kept", "too few cells", "no markers"])]
    shown = table if len(table) <= _MOST else off.head(_MOST)
    for name, row in shown.iterrows():
        zeros = [_interval(*(row[f"zeros_{side}{end}"] for end in ("", "_low", "_high"))) for side in ("in", "out")]
        level = "" if np.isnan(row["restored_in"]) else f"{row['restored_in']:.2f}"
        rows.append((str(name), f"{row['cells']:>7,}  {zeros[0]:>19}  {zeros[1]:>19}  {level:>8}  {row['verdict']}"))
    width = max(len(name) for name, _ in rows)
    rest = [] if shown is table else [f"  ... {len(shown):,} of {len(table):,} groups; --json FILE has all."]
    return [
        f"Groups of obs['{entry['groupby']}'] at their markers: molecules predicted over molecules seen where none was shown,",
        "inside the group and outside it, with 90% intervals; and restored over raw inside. 1 is right:",
        *(f"  {name:<{width}}  {numbers}" for name, numbers in rows),
        *rest,
        "",
        str(entry["verdict"]),
        *(f"  {words}" for words in off["words"].head(_MOST)),
    ]


def _interval(ratio: float, low: float, high: float) -> str:
    return "" if np.isnan(ratio) else f"{ratio:.2f} ({low:.2f} to {high:.2f})"


def _stored(adata: AnnData, key: str) -> Mapping[str, Any]:
    """Return what `scdae.tl.evaluate` wrote about groups, or what to do to have it."""
    entry = adata.uns.get(f"{key}_evaluation")
    if not isinstance(entry, Mapping) or "fidelity" not in entry:
        reason = "says nothing of groups" if isinstance(entry, Mapping) else "is not there"
        raise KeyError(
            f"adata.uns[{f'{key}_evaluation'!r}] {reason}. Call scdae.tl.evaluate(adata, groupby=...) with a column of obs first."
        )
    return entry["fidelity"]
