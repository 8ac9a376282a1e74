"""Are these values counts? What is not is described so that the user can find and mend it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scdae.core.data.non_zeros import entry_rows
from scdae.matrices.rows import canonical_csr, open_rows

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "Tally",
    "check_orientation",
    "describe_source",
    "not_counts",
    "transformation",
    "whole_count_sources",
    "without_noise",
]

_GENE_ID = re.compile(
    r"(ENS[A-Z]{0,6}G\d{9,}(\.\d+)?|FBgn\d{7}|WBGene\d{8}|AT[1-5CM]G\d{5}|Y[A-P][LR]\d{3}[WC](-[A-Z])?)", re.IGNORECASE
)
_BARCODE = re.compile(r"([A-Za-z0-9]+[_#:.-])*[ACGTN]{8,}([_.-][A-Za-z0-9]+)*")  # R makes dots of dashes
_WELL_KNOWN_GENES = frozenset(("ACTB", "B2M", "CD3D", "EEF1A1", "GAPDH", "MALAT1", "MT-CO1", "PPIA", "RPLP0", "VIM"))
_FEW = 5  # names shown before "..."
_LOG_VALUE_LIMIT = 20.0  # log1p of counts per 10k, or of anything countable, stays below
_NOISE, _MOST_NOISE = 2e-6, 0.01  # of a count that was text or passed through R: relative to it, or to 1; at most
_ENOUGH_CELLS = 1000  # to tell how they were normalized
_TOTALS_SPREAD = 0.01  # coefficient of variation below which totals are taken to be set by normalization


@dataclass
class Finding:
    """Entries of one kind that do not belong in a count matrix."""

    number: int = 0
    first: tuple[int, int, float] | None = None
    n_cells: int = 0
    last_row: int = 0
    genes: np.ndarray | None = None

    def __add__(self, other: Finding) -> Finding:
        """Add the findings in later rows."""
        genes = None if self.genes is None or other.genes is None else self.genes | other.genes
        return Finding(self.number + other.number, self.first, self.n_cells + other.n_cells, other.last_row, genes)


@dataclass
class Tally:
    """What a pass over all stored values met, block by block."""

    n_vars: int
    findings: dict[str, Finding] = field(default_factory=dict)
    n_stored: int = 0

    def add(self, block: sp.csr_matrix, start: int) -> None:
        """Look at one canonical block, whose first row is row `start` of the matrix."""
        values = block.data
        self.n_stored += values.size
        if values.size == 0 or values.dtype.kind in "bu":
            return
        if values.dtype.kind == "i":
            self._note("negative", values < 0, block, start)
            return
        finite = np.isfinite(values)
        with np.errstate(invalid="ignore", over="ignore"):
            too_large = finite & (np.abs(values) > np.finfo(np.float32).max)
            self._note("NaN", np.isnan(values), block, start)
            self._note("infinite", np.isinf(values) | too_large, block, start)
            self._note("negative", finite & (values < 0), block, start)
            self._note("fractional", finite & (np.abs(values - np.rint(values)) > _noise(values)), block, start)

    def _note(self, kind: str, where: np.ndarray, block: sp.csr_matrix, start: int) -> None:
        at = np.flatnonzero(where)
        if at.size == 0:
            return
        rows = np.searchsorted(block.indptr, at, side="right") - 1
        columns = block.indices[at]
        finding = self.findings.setdefault(kind, Finding(genes=np.zeros(self.n_vars, dtype=bool)))
        if finding.first is None:
            finding.first = (start + int(rows[0]), int(columns[0]), float(block.data[at[0]]))
        finding.number += at.size
        finding.n_cells += np.unique(rows).size
        finding.last_row = start + int(rows[-1])
        if finding.genes is not None:
            finding.genes[columns] = True

    def __contains__(self, kind: str) -> bool:
        return kind in self.findings

    def __add__(self, other: Tally) -> Tally:
        """Return what two passes met, `other` that over later rows."""
        findings = dict(self.findings)
        for kind, finding in other.findings.items():
            findings[kind] = findings[kind] + finding if kind in findings else finding
        return Tally(self.n_vars, findings, self.n_stored + other.n_stored)


def without_noise(block: sp.csr_matrix) -> sp.csr_matrix:
    """Round values that miss whole numbers by a rounding error, as from text or R: a relative 2e-6 at most.

    Parameters
    ----------
    block
        Canonical CSR; not changed.

    Returns
    -------
    scipy.sparse.csr_matrix
        The same object where nothing is off.
    """
    values = block.data
    if values.size == 0 or values.dtype.kind != "f":
        return block
    with np.errstate(invalid="ignore", over="ignore"):
        whole = np.rint(values)
        off = values != whole
        off &= np.abs(values - whole) <= _noise(values)
    if not off.any():
        return block
    block = sp.csr_matrix((np.where(off, whole, values), block.indices.copy(), block.indptr.copy()), shape=block.shape)
    block.eliminate_zeros()
    block.has_canonical_format = True
    return block


def _noise(values: np.ndarray) -> np.ndarray:
    """Return how much values may be off whole numbers and still be counts."""
    return np.minimum(_NOISE * np.maximum(1.0, np.abs(values)), _MOST_NOISE)


def describe_source(layer: str | None) -> str:
    """Return how messages call the matrix: `X`, or `layers['name']`."""
    return "X" if layer is None else f"layers[{layer!r}]"


def not_counts(tally: Tally, adata: AnnData, layer: str | None, *, allow_fractional: bool) -> str | None:
    """Say in one line what keeps the values from being counts, and what to do; None where nothing does."""
    kinds = [k for k in ("negative", "infinite", "NaN", "fractional") if k in tally]
    if allow_fractional and "fractional" in kinds:
        kinds.remove("fractional")
    if not kinds:
        return None
    name = describe_source(layer)
    main, others = kinds[0], kinds[1:]
    also = "".join(f" It also holds {tally.findings[k].number:,} {k} value(s)." for k in others)
    what = _locate(name, main, tally.findings[main], adata)
    return f"{what}{also} {_remedy(main, adata, layer)}"


def whole_count_sources(adata: AnnData, layer: str | None, *, of_these: bool = False) -> list[str]:
    """List the other elements of `adata` whose values are counts, each with how to use it.

    Parameters
    ----------
    adata, layer
        The matrix that was looked at.
    of_these
        Only those that can be the counts of this very matrix: nonzero where it is, and nowhere else.
    """
    matrix = adata.X if layer is None else adata.layers[layer]

    def fits(other: Any, columns: np.ndarray | None = None) -> bool:
        return _holds_counts(other) and not (of_these and not _same_support(matrix, other, columns))

    sources = []
    if layer is not None and adata.X is not None and fits(adata.X):
        sources.append("X (leave layer out)")
    for key in adata.layers:
        if key is not None and key != layer and fits(adata.layers[key]):
            sources.append(f"layers[{key!r}] (pass layer={key!r})")
    if adata.raw is not None:
        columns = adata.raw.var_names.get_indexer(adata.var_names) if adata.raw.var_names.is_unique else None
        known = columns is not None and bool((columns >= 0).all())
        if fits(adata.raw.X, columns if known else None):
            sources.append(f".raw with {adata.raw.shape[1]:,} genes (pass adata.raw.to_adata())")
    return sources


def _same_support(matrix: Any, other: Any, columns: np.ndarray | None = None) -> bool:
    """Return whether two matrices are nonzero at the same entries; of the other one only at some columns, if they are given."""
    one, two = open_rows(matrix, ""), open_rows(other, "")
    if one.shape[0] != two.shape[0] or (columns is None and one.shape[1] != two.shape[1]):
        return False
    for start, stop in one.spans():
        a, b = canonical_csr(one.read(start, stop)), canonical_csr(two.read(start, stop))
        b = b if columns is None else canonical_csr(b[:, columns])
        if not (np.array_equal(a.indptr, b.indptr) and np.array_equal(a.indices, b.indices)):
            return False
    return True


def check_orientation(obs_names: np.ndarray, var_names: np.ndarray) -> None:
    """Refuse genes in rows: cells named as genes are, and genes named as cells are.

    Raises
    ------
    ValueError
        At least half of the names on both sides say so.
    """
    if _share(_BARCODE, var_names) < 0.5:
        return
    known = _WELL_KNOWN_GENES.intersection(str(name).upper() for name in obs_names)
    if _share(_GENE_ID, obs_names) >= 0.5 or len(known) >= 3:
        raise ValueError(
            f"adata looks transposed: its rows should be cells but are named as genes ({str(obs_names[0])!r}), and "
            f"its columns should be genes but are named as cell barcodes ({str(var_names[0])!r}). Pass adata.T.copy()."
        )


def _locate(name: str, kind: str, finding: Finding, adata: AnnData) -> str:
    row, column, value = finding.first or (0, 0, 0.0)
    shown = "missing (NaN)" if kind == "NaN" else kind
    span = "" if finding.n_cells in (1, adata.n_obs) else f", rows {row} to {finding.last_row}"
    text = (
        f"{name} does not hold counts: {finding.number:,} {shown} value(s) in {finding.n_cells:,} of {adata.n_obs:,} cells"
        f"{span}; the first is {value:.6g} in cell {str(adata.obs_names[row])!r} (row {row}), "
        f"gene {str(adata.var_names[column])!r} (column {column})."
    )
    if kind == "NaN" and finding.genes is not None:
        genes = np.flatnonzero(finding.genes)
        names = ", ".join(repr(str(adata.var_names[j])) for j in genes[:_FEW])
        text += f" Genes concerned: {genes.size:,} ({names}{', ...' if genes.size > _FEW else ''})."
    return text


def _remedy(kind: str, adata: AnnData, layer: str | None) -> str:
    if kind == "NaN":
        return (
            "If they mark entries that were not measured, as after an outer join, pass allow_nan=True to leave them "
            "out of the training, or keep only shared genes with join='inner'; if they stand for no molecule, fill "
            "them with 0."
        )
    use = _whole(whole_count_sources(adata, layer))
    if kind == "infinite":
        return use or "Find out where they come from (often a division by zero) and go back to the raw counts."
    if kind == "negative":
        return "It looks scaled or otherwise transformed. " + (use or _NO_COUNTS_ELSEWHERE)
    certain, looks = transformation(adata, layer)
    if certain:
        of_these = _whole(whole_count_sources(adata, layer, of_these=True)) if use else ""
        doubt = use and f"{use} They are not of the same entries: be sure that they are the counts of these values."
        return f"It looks {looks}. " + (of_these or doubt or _NO_COUNTS_ELSEWHERE)
    expected = (
        "If these are estimated counts (Salmon, alevin, ambient-corrected, ...), pass allow_fractional=True; "
        "otherwise use raw counts, which are whole numbers."
    )
    use = _whole(
        whole_count_sources(adata, layer, of_these=True)
    )  # others may be of another quantity: nascent molecules
    return (f"It may be {looks}. " if looks else "") + (f"{use} " if use else "") + expected


def _whole(places: list[str]) -> str:
    return f"Whole counts are in {'; '.join(places)}." if places else ""


_NO_COUNTS_ELSEWHERE = "No layer and no .raw of this object holds whole counts: put the raw counts into one, and pass layer=... to choose it."


def transformation(adata: AnnData, layer: str | None) -> tuple[bool, str]:
    """Say how the cells with fractional values were normalized, where that is certain."""
    totals: list[np.ndarray] = [np.zeros(0)]
    back: list[np.ndarray] = [np.zeros(0)]
    largest = 0.0
    rows = open_rows(adata.X if layer is None else adata.layers[layer], describe_source(layer))
    for start, stop in rows.spans():
        block = canonical_csr(rows.read(start, stop)).astype(np.float64)
        row = entry_rows(block)
        odd = np.zeros(stop - start, dtype=bool)
        odd[row[block.data != np.rint(block.data)]] = True
        values = np.where(odd[row], block.data, 0.0)
        largest = max(largest, float(values.max(initial=0.0)))
        totals.append(np.bincount(row, values, stop - start)[odd])
        if largest < _LOG_VALUE_LIMIT:
            back.append(np.bincount(row, np.expm1(values), stop - start)[odd])
        if sum(map(len, totals)) >= _ENOUGH_CELLS:
            break
    is_small = largest < _LOG_VALUE_LIMIT
    for per_cell, words in (
        (np.concatenate(back), "log-normalized (log1p of values that add up to {:,.0f} per cell)"),
        (np.concatenate(totals), "normalized (each cell adds up to {:,.0f})"),
    ):
        if _constant(per_cell) and (is_small or words.startswith("normalized")):
            return True, words.format(np.median(per_cell))
    if is_small and "log1p" in adata.uns:
        return True, "log-normalized (uns['log1p'] says so)"
    return False, f"log-normalized (no value above {largest:.3g})" if is_small else ""


def _constant(sums: np.ndarray) -> bool:
    sums = sums[np.isfinite(sums) & (sums > 0)]
    return sums.size >= 3 and float(sums.std()) < _TOTALS_SPREAD * float(sums.mean())


def _holds_counts(matrix: Any) -> bool:
    try:
        rows = open_rows(matrix, "")
    except (TypeError, ValueError):
        return False
    if rows.dtype.kind == "b":  # a mask
        return False
    tally = Tally(rows.shape[1])
    for start, stop in rows.spans():
        tally.add(canonical_csr(rows.read(start, stop)), start)
        if tally.findings:
            return False
    return tally.n_stored > 0


def _share(pattern: re.Pattern[str], names: np.ndarray) -> float:
    """Return the fraction of the names (of the first 1,000) that match as a whole."""
    shown = names[:1000]
    return sum(pattern.fullmatch(str(name)) is not None for name in shown) / max(1, len(shown))
