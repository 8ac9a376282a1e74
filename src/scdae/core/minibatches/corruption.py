"""Corruption: the part of the counts that the encoder sees, and the part to predict.

Both are values at the stored entries of the cells. The input of the encoder is the visible part on the principal axes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from scdae.core.data.cells import CellData
from scdae.core.data.non_zeros import entry_rows
from scdae.core.data.thinning import thin_values
from scdae.core.network.encoder_input import Axes, project

__all__ = ["Halves", "corrupt", "split", "whole"]


class Halves(NamedTuple):
    """The two parts of the counts of `n` cells with `k` stored entries."""

    inputs: np.ndarray  # float32 (n, n_components): input of the encoder
    x_in: np.ndarray  # float32 (k,): molecules that the encoder sees
    x_out: np.ndarray  # float32 (k,): molecules to predict
    scored: np.ndarray | None = None  # bool (n, n_vars): entries to predict; None for all that were observed


def split(axes: Axes, cells: CellData, x_in: np.ndarray) -> Halves:
    """Use `x_in`, float32 (k,), as input and the rest as target."""
    return Halves(_inputs(axes, cells, x_in, cells.share, cells.unobserved), x_in, cells.counts.data - x_in)


def whole(axes: Axes, cells: CellData) -> Halves:
    """Use all counts as input."""
    return split(axes, cells, cells.counts.data)


def corrupt(axes: Axes, cells: CellData, noise: np.ndarray, corruption: str, rng: np.random.Generator) -> Halves:
    """Corrupt the input in one of three ways.

    Parameters
    ----------
    axes
        Fixed first layer.
    cells
        The cells of a minibatch.
    noise
        float32 (n,): noise level of each cell.
    corruption
        ``"thinning"``: that fraction of the molecules is hidden and to be predicted. ``"masking"``: the same for that
        fraction of the entries. ``"gaussian"``: noise of that standard deviation is added to every gene's log count,
        and all counts are to be predicted.
    rng
        Source of random numbers.
    """
    counts = cells.counts
    if corruption == "thinning":
        return split(axes, cells, thin_values(counts.data, (1 - noise)[entry_rows(counts)], rng))
    if corruption == "gaussian":
        inputs = whole(axes, cells).inputs
        length = np.sqrt((axes.weight**2).sum(axis=0))  # noise of the genes, projected on the axes
        inputs = inputs + noise[:, None] * length * rng.standard_normal(inputs.shape, dtype=np.float32)
        return Halves(inputs, np.zeros_like(counts.data), counts.data)
    hidden = rng.random(counts.shape, dtype=np.float32) < noise[:, None]
    if cells.unobserved is None:
        scored = unseen = hidden
    else:
        unobserved = cells.unobserved.toarray()
        scored, unseen = hidden & ~unobserved, hidden | unobserved
    x_out = np.where(hidden[entry_rows(counts), counts.indices], counts.data, 0)
    share = np.maximum(1 - noise, 1e-3) * cells.share
    inputs = _inputs(axes, cells, counts.data - x_out, share, sp.csr_matrix(unseen))
    return Halves(inputs, np.zeros_like(x_out), x_out, scored)


def _inputs(
    axes: Axes, cells: CellData, shown: np.ndarray, share: np.ndarray, unseen: sp.csr_matrix | None
) -> np.ndarray:
    part = sp.csr_matrix((shown, cells.counts.indices, cells.counts.indptr), shape=cells.counts.shape)
    return project(axes, CellData(part, unseen, cells.conditions, share))
