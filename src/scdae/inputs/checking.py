"""Counts that are checked when they are read, and which of several joined files a value is of."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scdae.inputs.scan import Read, as_parts
from scdae.inputs.validate import Tally, not_counts
from scdae.matrices.annotation import obs_column
from scdae.matrices.joining import JOINED

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["CheckedReader", "problem_of"]


class CheckedReader:
    """Reads some rows and raises a ValueError unless they are counts.

    The data are known by a weak reference, for the message alone: a lazy layer is part of them, and neither keeps them
    alive nor takes them along where it is pickled or sent to another process. There the message knows the names and no
    other matrices.

    Parameters
    ----------
    read
        Gives canonical counts of the rows from start to stop, and what was not observed.
    adata, layer, allow_fractional
        As for :func:`scdae.inputs.counts.read_counts`.
    """

    def __init__(self, read: Read, adata: AnnData, layer: str | None, allow_fractional: bool):
        self._read, self._layer, self._allow_fractional = read, layer, allow_fractional
        self._adata: weakref.ref[AnnData] | None = weakref.ref(adata)
        self._names = adata.obs_names, adata.var_names
        joined = _joined(adata)
        self._joined = joined and (joined, obs_column(adata, joined["label"]))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_adata": None}

    def __call__(self, start: int, stop: int) -> tuple[sp.csr_matrix, sp.csr_matrix | None]:
        """Return the counts of the rows, and their missing values."""
        block, missing = self._read(start, stop)
        tally = Tally(block.shape[1])
        tally.add(block, start)
        if tally.findings:
            problem = problem_of(
                tally, self._described(block, start), self._layer, allow_fractional=self._allow_fractional
            )
            if problem is not None:
                raise ValueError(problem)
        return as_parts(block, missing)

    def _described(self, block: sp.csr_matrix, start: int) -> AnnData:
        """Return the data; where they are gone, their names and these rows."""
        adata = None if self._adata is None else self._adata()
        if adata is not None:
            return adata
        obs = pd.DataFrame(index=self._names[0])
        if self._joined:
            obs[self._joined[0]["label"]] = self._joined[1].to_numpy()
        ends = np.zeros(len(obs) + 1, block.indptr.dtype)
        ends[start : start + len(block.indptr)] = block.indptr
        ends[start + len(block.indptr) :] = block.indptr[-1]
        matrix = sp.csr_matrix((block.data, block.indices, ends), shape=(len(obs), block.shape[1]))
        return AnnData(
            matrix if self._layer is None else None,
            obs=obs,
            var=pd.DataFrame(index=self._names[1]),
            layers={} if self._layer is None else {self._layer: matrix},
            uns={JOINED: self._joined[0]} if self._joined else {},
        )


def problem_of(tally: Tally, adata: AnnData, layer: str | None, *, allow_fractional: bool) -> str | None:
    """Return what :func:`scdae.inputs.validate.not_counts` says, and the file that the first such value is in if files were joined."""
    problem = not_counts(tally, adata, layer, allow_fractional=allow_fractional)
    joined = _joined(adata)
    if problem is None or joined is None:
        return problem
    files = {Path(name).stem: name for name in map(str, joined["files"])}
    row = next(
        tally.findings[kind].first or (0,) for kind in ("negative", "infinite", "NaN", "fractional") if kind in tally
    )[0]
    name = str(obs_column(adata, joined["label"]).iloc[row])
    return f"{problem} This cell is in the file {files.get(name, name)}."


def _joined(adata: AnnData) -> Mapping[str, Any] | None:
    """Return what :func:`scdae.pp.join_files` said about the files, as long as the column is there."""
    joined = adata.uns.get(JOINED)
    return joined if isinstance(joined, Mapping) and joined.get("label") in adata.obs else None
