"""One part restored into the store: chunk by chunk, and noted as there when all of it is."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from scdae.core.prediction.missing import Gaps
from scdae.core.runtime import stopping
from scdae.files.closing_store import ClosingStore
from scdae.files.targets import writes
from scdae.inputs.count_types import UnreadCounts
from scdae.outputs.blocks import BlockReader
from scdae.parts.folder import Folder
from scdae.parts.plan import Plan
from scdae.parts.store import Writer

__all__ = ["restore_part"]


def restore_part(folder: Folder, plan: Plan, part: int, reader: BlockReader) -> dict[str, Any]:
    """Restore a part; the folder notes that it is there when all of it is written.

    Parameters
    ----------
    folder
        Where the store grows.
    plan
        The plan of its parts.
    part
        Number of the part, from 1.
    reader
        Restores blocks; its counts are checked when they are read.

    Returns
    -------
    dict
        What was noted: rows, stored values, seconds, and what the collecting needs to know of these cells.

    Raises
    ------
    ValueError
        Values are not counts, or another process is writing this part. The part is not there then.
    WriteError
        The store cannot be written to.
    """
    began = time.perf_counter()
    seen = _Seen(reader.counts)
    reader = replace(reader, counts=seen.counts)
    gaps, n_blind = Gaps(), 0
    rows = plan.geometry.rows(part)
    with writes(folder.target), folder.writing(part):
        folder.unmark(part)
        stopping.keeping("part", f"part {part} of {plan.n_parts} is not there, and the same command restores it")
        store = ClosingStore(folder.store)
        try:
            writer = Writer(store, plan, rows, [folder.pieces(number) for number in range(len(plan.layers))])
            for start, stop in plan.geometry.spans(part):
                stopping.stop_if_asked()
                block = reader.read(start, stop, gaps)
                writer.write(start, block)
                n_blind += block.own[0].n_blind
        finally:
            store.end()
        about = {
            "part": part,
            "rows": list(rows),
            "entries": writer.entries,
            "seconds": round(time.perf_counter() - began, 2),
            "n_blind": n_blind,
            "gaps": {**gaps.report(), "contractions": gaps.contractions},
            **seen.found(reader.gene_map.silent_source),
        }
        folder.mark(part, about)
        stopping.keeping("part", f"part {part} of {plan.n_parts} is there")
    return about


class _Seen:
    """Counts that are read, with what is seen of all genes while they are; a block that is asked for again is kept."""

    def __init__(self, counts: Any):
        self._read, self._last, self._block = counts.read, (-1, -1), (sp.csr_matrix((0, 0)), None)
        n_vars = counts.shape[1]
        self._counted = np.zeros(n_vars, bool)
        self._observed = np.zeros(n_vars, bool)
        self._n_empty = 0
        self.counts = UnreadCounts(counts.spans, self.read, counts.obs_names, counts.var_names)

    def read(self, start: int, stop: int) -> tuple[sp.csr_matrix, sp.csr_matrix | None]:
        if (start, stop) != self._last:
            self._block, self._last = self._read(start, stop), (start, stop)
            matrix, hidden = self._block
            self._counted[matrix.indices] = True
            n_hidden = (
                np.zeros(matrix.shape[1]) if hidden is None else np.bincount(hidden.indices, minlength=matrix.shape[1])
            )
            self._observed |= n_hidden < matrix.shape[0]
            self._n_empty += 0 if hidden is None else int((np.diff(hidden.indptr) == matrix.shape[1]).sum())
        return self._block

    def found(self, silent: np.ndarray) -> dict[str, Any]:
        """Genes that no cell was observed in, cells of which no gene was, and which of the genes in `silent` have counts."""
        return {
            "never_observed": np.flatnonzero(~self._observed).tolist(),
            "n_cells_never_observed": self._n_empty,
            "counted": silent[self._counted[silent]].tolist(),
        }
