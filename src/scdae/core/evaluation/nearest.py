"""The group that a cell is most like, by its counts and by what is restored of it."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scdae.core.data.cells import CellData

__all__ = ["Nearest"]


class Nearest:
    """The group that each cell is likeliest to belong to, by what was counted in it and by what is restored.

    A group's profile is what was counted in its cells, drawn to that of all cells by the exposure of one. A cell is not
    counted in the profile of its own group.

    Parameters
    ----------
    data
        Molecules shown.
    exposure
        float64 (n_obs,): molecules that each cell would have if all genes had been observed.
    group
        int (n_obs,): group of each cell, below 0 for cells that are left out.
    n_groups
        Number of groups.
    """

    def __init__(self, data: CellData, exposure: np.ndarray, group: np.ndarray, n_groups: int):
        self._data, self._exposure, self._group = data, exposure, group
        cells = np.flatnonzero(group >= 0)
        member = sp.csr_matrix((np.ones(len(cells)), (group[cells], cells)), (n_groups, data.n_obs))
        self._counted = (member @ data.counts).toarray().astype(np.float64)
        self._seen = np.repeat((member @ exposure)[:, None], data.n_vars, axis=1)
        if data.unobserved is not None:
            weight = sp.diags_array(exposure) @ data.unobserved.astype(np.float64)
            self._seen -= (member @ weight).toarray()
        self._unit = float(exposure[cells].mean())
        common = (self._counted.sum(axis=0) + 0.5) / (self._seen.sum(axis=0) + self._unit)
        self._prior = self._unit * common
        self._rate = (self._counted + self._prior) / (self._seen + self._unit)
        self.own = np.zeros((2, n_groups))  # cells nearest to their own group, as counted and as restored
        self.changed = np.zeros(n_groups)  # cells nearest to another group than before
        self.left = np.zeros(n_groups)  # of these, those that were nearest to their own before

    def add(self, rows: slice, restored: np.ndarray) -> None:
        """Add cells: what is restored of them, float64 (n, n_vars)."""
        at = np.flatnonzero(self._group[rows] >= 0)
        if not len(at):
            return
        cells = np.arange(rows.start, rows.stop)[at]
        own, exposure = self._group[cells], self._exposure[cells, None]
        counts = self._data.counts[cells].toarray().astype(np.float64)
        hidden = None if self._data.unobserved is None else self._data.unobserved[cells].toarray()
        rest = np.maximum(self._seen[own] - (exposure if hidden is None else np.where(hidden, 0, exposure)), 0)
        alone = (np.maximum(self._counted[own] - counts, 0) + self._prior) / (rest + self._unit)
        whole, log_rate, log_alone = self._rate.sum(axis=1), np.log(self._rate), np.log(alone)
        neighbors = []
        for values in (counts, restored[at]):
            values = values if hidden is None else np.where(hidden, 0, values)
            missed = 0.0 if hidden is None else hidden @ self._rate.T
            score = values @ log_rate.T - exposure * (whole - missed)
            seen = alone.sum(axis=1) if hidden is None else np.where(hidden, 0, alone).sum(axis=1)
            score[np.arange(len(at)), own] = (values * log_alone).sum(axis=1) - exposure[:, 0] * seen
            neighbors.append(score.argmax(axis=1))
        before, after = neighbors
        for side, one in enumerate(neighbors):
            np.add.at(self.own[side], own, one == own)
        np.add.at(self.changed, own, before != after)
        np.add.at(self.left, own, (before == own) & (after != own))
