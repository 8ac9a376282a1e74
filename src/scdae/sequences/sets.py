"""Sets of gene sequences that are compared: whether their windows are the same, and those of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from scdae._log import get_logger
from scdae.core.chimeras.alignment import Pieces
from scdae.core.chimeras.kmers import letters, place
from scdae.core.chimeras.placement import Windows
from scdae.core.data.exposure import gene_profile
from scdae.inputs.counts import read_counts
from scdae.matrices.annotation import obs_column
from scdae.matrices.columns import as_dense
from scdae.model import DAE
from scdae.sequences.frames import RECORD, frame_of, read_frame, record_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "check_frames",
    "check_words",
    "column_starts",
    "groups_of",
    "read_letters",
    "read_pieces",
    "read_windows",
    "shape_of",
]

_OTHER_WORDS = (
    0.15  # of the words of the model are others in the reference: windows are not the same, a part of it has less
)
_SAME_WORDS = 1e-3
_REMAKE = "Make it with scdae.pp.kmers(..., reference=...), with the reference that the model was fitted to."


def shape_of(reference: AnnData) -> tuple[int, int]:
    """Windows, and words of each."""
    if "window" not in reference.var or "observed" not in reference.layers or "window_starts" not in reference.obsm:
        raise ValueError("reference was not made by scdae.pp.kmers: var['window'] or layers['observed'] is missing.")
    window = reference.var["window"].to_numpy()
    n_windows = len(np.unique(window))
    n_words = reference.n_vars // n_windows
    if n_windows < 2 or not np.array_equal(window, np.repeat(np.arange(n_windows), n_words)):
        raise ValueError(
            f"reference has {n_windows} window(s) and {reference.n_vars:,} variables. It needs two windows or more, whole and "
            "in the order of scdae.pp.kmers."
        )
    return n_windows, n_words


def check_frames(parts: Mapping[str, AnnData]) -> None:
    """Variables of two objects have the same names whatever their windows are, so what they say of these is compared."""
    frames = {name: frame_of(part, name) for name, part in parts.items()}
    for name, frame in frames.items():
        if frame is None:
            get_logger().warning(
                f"scdae: uns['kmers'] is missing in {name}, so that nobody knows which windows it was made with. After anndata.concat, "
                "pass uns_merge='same' to it."
            )
        elif frames["reference"] is not None and frame != frames["reference"]:
            raise ValueError(
                f"{name}: its windows are not those of reference, although the variables have the same names. {_REMAKE}"
            )


def check_words(model: DAE, reference: Windows, shape: tuple[int, int]) -> None:
    """Compare how often each word of the reference is there with what the model was fitted to."""
    outcome = model.fitted_outcome()
    hidden = None
    if not reference.observed.all():
        hidden = sp.csr_matrix(np.repeat(~reference.observed, shape[1], axis=1)[:, outcome.genes])
    here = gene_profile(sp.csr_matrix(reference.counts)[:, outcome.genes], hidden)
    apart = float(np.abs(here - np.asarray(outcome.fitted.profile, np.float64)).sum() / 2)
    if apart > _OTHER_WORDS:
        raise ValueError(
            f"model was fitted to other windows than those of reference: {apart:.0%} of its words are others. Give the reference that "
            "it was fitted to, or fit it to this one: model.fit(reference, mask='observed')."
        )
    if apart > _SAME_WORDS:
        get_logger().warning(
            f"scdae: the model was not fitted to this reference as it is, or without its mask: {apart:.1%} of its words are "
            "others. Scores are best with model.fit(reference, mask='observed')."
        )


def read_windows(adata: AnnData, name: str, var_names: np.ndarray, shape: tuple[int, int]) -> Windows:
    """Counts of the words, and which windows were observed."""
    if not np.array_equal(adata.var_names.to_numpy(str), var_names):
        raise ValueError(f"{name}: its variables are not those that the model was fitted to. {_REMAKE}")
    for slot, key in (("layers", "observed"), ("obsm", "window_starts")):
        if key not in getattr(adata, slot):
            raise ValueError(f"{name}: {slot}[{key!r}] is missing. Make it with scdae.pp.kmers.")
    observed = as_dense(adata.layers["observed"])[:, :: shape[1]]
    return Windows(read_counts(adata, mask="observed", for_fit=False).matrix, observed)


def read_letters(parts: Mapping[str, AnnData]) -> dict[str, np.ndarray]:
    """Letters in the columns of the frame, of each object; nothing where one was made before these were kept."""
    without = [name for name, part in parts.items() if "letters" not in part.obsm or RECORD not in part.uns]
    if not without:
        return {name: np.asarray(part.obsm["letters"], np.int8) for name, part in parts.items()}
    if len(without) < len(parts):
        get_logger().warning(
            f"scdae: obsm['letters'] is missing in {' and '.join(without)}, so chimeras are judged by the words of windows "
            "alone, which is less sensitive. Make it anew with scdae.pp.kmers."
        )
    return {}


def read_pieces(parts: Mapping[str, AnnData]) -> dict[str, Pieces]:
    """Letters of each object within the columns, without gaps; nothing where one was made before sequences were kept."""
    if any("sequence" not in part.obs for part in parts.values()):
        return {}
    frame = read_frame(record_of(parts["reference"], "reference"))
    columns, found = frame.columns, {}
    for name, part in parts.items():
        pieces = Pieces([], [])
        for text in part.obs["sequence"].astype(str):
            placed = place(letters(text), frame)
            within = slice(*np.searchsorted(placed.places, [columns[0] - 0.5, columns[-1] + 0.5]))
            pieces.letters.append(placed.letters[within])
            pieces.places.append(placed.places[within] - columns[0])
        found[name] = pieces
    return found


def column_starts(reference: AnnData) -> np.ndarray:
    """Columns at which the windows of a reference begin, and the last one ends: int64 (n_windows + 1,)."""
    frame = read_frame(record_of(reference, "reference"))
    return np.asarray(np.searchsorted(frame.columns, frame.edges), np.int64)


def groups_of(reference: AnnData, group_key: str | None) -> np.ndarray:
    """Number of the group of each sequence of the reference."""
    if group_key is None:
        return np.arange(reference.n_obs)
    if group_key not in reference.obs:
        raise ValueError(f"group_key={group_key!r} is not a column of reference.obs. Name one, or pass None.")
    column = obs_column(reference, group_key)
    labels = np.array(["" if missing else str(label) for label, missing in zip(column, column.isna(), strict=True)])
    unknown = labels == ""
    levels, number = np.unique(labels, return_inverse=True)
    n_groups = len(levels) - bool(unknown.any())
    if n_groups == 0:
        raise ValueError(
            f"group_key={group_key!r}: no sequence of the reference has a label there. Pass another column, or None."
        )
    number[unknown] = len(levels) + np.arange(int(unknown.sum()))  # they need not have anything in common
    if n_groups + int(unknown.sum()) < 3:
        raise ValueError(
            f"group_key={group_key!r}: the reference has {n_groups} group(s), and relatives are sought in other groups. "
            "Pass another column, or None."
        )
    return number
