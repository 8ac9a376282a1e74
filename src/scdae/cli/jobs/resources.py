"""What to ask a scheduler for: memory, time and cores of a job, from the header of its input."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scdae._settings import settings
from scdae.cli.pages.costs import layer_bytes, peak_bytes, seconds_of_restoring, seconds_of_training
from scdae.core.config import Config
from scdae.core.training.schedule import batch_size_for, n_steps_for
from scdae.files.errors import reading
from scdae.io.read import is_anndata, read_any
from scdae.io.stored import open_group
from scdae.io.stored_checks import sparse_format

__all__ = ["Ask", "Size", "ask_for", "size_of"]

_MORE = 1.4  # times the estimated peak
_PATIENT = 3.0  # times the estimated seconds: nodes differ, and file servers are busy
_LEAST_SECONDS, _STEP_SECONDS = 600, 300
_STEP_BYTES = 2**20 * 100
_CORES = (10**6, 1), (2 * 10**7, 2)  # stored entries up to which so many cores are used
_MOST_CORES = 4
_HELD_SHARE = 0.5  # of the free memory, up to which a layer is held (see `lazy.choose_lazy`)


class Size(NamedTuple):
    """Of one input."""

    n_obs: int
    n_vars: int
    n_stored: int  # entries of the counts
    n_bytes: int  # all that is read into memory


class Ask(NamedTuple):
    """Of one job."""

    memory: int  # bytes
    seconds: int
    cores: int
    peak: int  # bytes, as estimated


def size_of(path: Path, layer: str | None = None) -> Size:
    """Cells, genes, stored entries and bytes of an input; AnnData files are looked at, others are read."""
    if not is_anndata(path):
        adata = read_any(path)
        matrix = adata.X
        stored = int(getattr(matrix, "nnz", np.size(matrix)))
        return Size(adata.n_obs, adata.n_vars, stored, 12 * stored)
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = open_group(path)
        raw = layer == "raw" and "raw" not in group.get("layers", ())
        holder = group["raw"] if raw else group
        counts = holder["X"] if layer is None or raw else group["layers"][layer]
        shape = counts.attrs.get("shape", counts.attrs.get("h5sparse_shape")) if sparse_format(counts) else counts.shape
        n_obs, n_vars = (int(length) for length in shape)
        stored = int(counts["data"].shape[0] if sparse_format(counts) else counts.size)
        return Size(n_obs, n_vars, stored, _bytes_of(group))


def ask_for(
    size: Size,
    config: Config,
    *,
    n_layers: int = 1,
    alone: bool = False,
    threshold: float | None = None,
    cores: int | None = None,
) -> Ask:
    """What a job on this input asks for.

    Parameters
    ----------
    size
        Of the input.
    config
        Settings of the training.
    n_layers
        Layers that are written: one for each output and each quantile.
    alone
        Whether the results are written without the data.
    threshold
        Below which values are left out of the layers; None for dense layers.
    cores
        Cores that it gets; None for as many as it has use for.

    Returns
    -------
    Ask
        The layers are held in memory, or computed while they are written, as the job itself will do with the memory that it
        is given.

    Examples
    --------
    >>> ask = ask_for(Size(3000, 20_000, 3_000_000, 36_000_000), Config())
    >>> ask.cores, ask.seconds, ask.peak < ask.memory
    (2, 600, True)
    """
    if cores is None:
        cores = next((count for most, count in _CORES if size.n_stored <= most), _MOST_CORES)
    on_disk = size.n_stored > settings.max_entries
    layers = layer_bytes(n_layers * size.n_obs * size.n_vars, threshold)
    shape = {"n_obs": size.n_obs, "n_vars": size.n_vars}
    n_bytes = 0 if on_disk else size.n_bytes
    # More chunks are computed side by side only where there is memory for them.
    peak = peak_bytes(size.n_stored, n_bytes, chunks=1, **shape)
    memory = _MORE * peak
    # Sparse layers that are written with the data are held whatever they take.
    held = not (alone or on_disk) and (
        threshold is not None or layers <= _HELD_SHARE * (memory - peak_bytes(0, n_bytes))
    )
    if held:
        peak = peak_bytes(size.n_stored, n_bytes, held=layers, chunks=int(threshold is not None), **shape)
        memory = max(memory, _MORE * peak)
    batch_size = batch_size_for(config, size.n_obs, size.n_vars)
    steps = n_steps_for(config, size.n_obs, batch_size)
    seconds = seconds_of_training(steps, batch_size, size.n_vars, size.n_stored)
    seconds = _PATIENT * (seconds + n_layers * seconds_of_restoring(size.n_obs * size.n_vars)) * max(2 / cores, 1)
    return Ask(_up(memory, _STEP_BYTES), max(_up(seconds, _STEP_SECONDS), _LEAST_SECONDS), cores, int(peak))


def _up(value: float, step: int) -> int:
    return int(-(-value // step)) * step


def _bytes_of(element: Any) -> int:
    """Return the bytes of all arrays in a group, as they are in memory."""
    if hasattr(element, "shape"):
        return int(element.size) * max(int(element.dtype.itemsize), 1)
    return sum(_bytes_of(element[name]) for name in element)
