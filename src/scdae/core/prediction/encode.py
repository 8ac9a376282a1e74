"""Latent space of many cells: counts are projected on the axes and encoded, without decoding.

On a CPU, SciPy computes the sparse product with the axes. An accelerator gets the counts themselves, eight bytes per
entry, and holds dense rows of the cells only during the product.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scdae.core.data.cells import CellData
from scdae.core.data.conditions import Conditions
from scdae.core.data.minibatch import padded
from scdae.core.minibatches.build import slices
from scdae.core.network.encoder_input import project, project_entries
from scdae.core.network.fitted import Fitted
from scdae.core.network.parameters import Network
from scdae.core.runtime.background import one_behind
from scdae.core.runtime.platforms import on_accelerator

__all__ = ["encode", "latents"]

_ENTRIES = 2**21  # stored entries processed together
_CELLS = (64, 2048)  # fewest and most cells processed together


def latents(fitted: Fitted, data: CellData, *, on_device: bool | None = None) -> Iterator[tuple[slice, np.ndarray]]:
    """Compute the latent representation of cells, in order.

    Parameters
    ----------
    fitted
        The model.
    data
        The cells; missing values are replaced by the gene's mean.
    on_device
        Whether to copy the counts to the device; None: if it is an accelerator and no values are missing.

    Yields
    ------
    tuple
        Slice of cells, and float32 (cells, n_latent).
    """
    on_device = on_accelerator() and data.unobserved is None if on_device is None else on_device
    size = _cells_at_once(data)
    known = jax.device_put((fitted.axes.weight, fitted.axes.gene_mean, fitted.axes.effects)) if on_device else None

    def started() -> Iterator[tuple[slice, jax.Array]]:
        for i, group in enumerate(slices(data.n_obs, size)):
            cells = data.take(group)
            if known is None:
                latent = encode(fitted, project(fitted.axes, cells), cells.conditions)
            else:
                latent = _encode_there(fitted, known, cells)
            yield slice(i * size, min((i + 1) * size, data.n_obs)), latent

    for rows, latent in one_behind(started()):
        yield rows, np.asarray(latent)[: rows.stop - rows.start]


def _cells_at_once(data: CellData) -> int:
    """Choose a power of two, so that one compiled program serves most data sets."""
    mean = max(data.counts.nnz / max(data.n_obs, 1), 1)
    wanted = int(np.clip(min(_ENTRIES / mean, data.n_obs), *_CELLS))
    return 1 << (wanted - 1).bit_length()


def encode(fitted: Fitted, inputs: np.ndarray | jax.Array, conditions: Conditions) -> jax.Array:
    """Encode cells that are projected on the axes already: (b, n_components) to (b, n_latent)."""
    return _encode(fitted.network, inputs, conditions)


def _encode_there(fitted: Fitted, axes: Any, cells: CellData) -> jax.Array:
    counts = cells.counts
    capacity = 1 << int(counts.nnz).bit_length()  # at least one more than there are entries
    listed = counts.indptr.astype(np.int32), padded(counts.indices, capacity), padded(counts.data, capacity)
    return _encode_counts(fitted.network, axes, *listed, cells.conditions, cells.share)


@jax.jit
def _encode(network: Network, inputs: Any, conditions: Conditions) -> jax.Array:
    return network.merged().encode(inputs, conditions)


@jax.jit
def _encode_counts(
    network: Network, axes: Any, ends: Any, cols: Any, values: Any, conditions: Conditions, share: Any
) -> jax.Array:
    number = jnp.arange(len(cols), dtype=jnp.int32)
    rows = jnp.minimum(jnp.searchsorted(ends[1:], number, side="right"), len(share) - 1).astype(jnp.int32)
    weight, mean, effects = axes
    inputs = project_entries(weight, mean, effects, values, rows, cols, conditions, share)
    return network.merged().encode(inputs, conditions)
