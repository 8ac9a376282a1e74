"""Devices that compute a step: one, or several that each take a part of the cells of a minibatch.

Noise and thinning are drawn for the whole minibatch before it is divided, so several devices train the same network as
one, up to rounding. All hold the same parameters, and their gradients are summed in every step. A CPU also takes its
cells in parts, one after the other: the data of a part fit in its caches, and its memory is reused from step to step.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from scdae.core.data.cells import CellData
from scdae.core.data.minibatch import Batch, Size
from scdae.core.minibatches.corruption import Halves
from scdae.core.minibatches.microbatches import groups_of, parts_for, parts_of
from scdae.core.runtime.platforms import check_platform

__all__ = ["Devices", "OneDevice", "SeveralDevices", "devices_for"]

_AXIS = "cells"


class Devices(Protocol):
    """What training requires of the devices."""

    def __hash__(self) -> int:
        """Hash the devices: equal ones share compiled programs."""

    @property
    def number(self) -> int:
        """Number of devices."""

    @property
    def parts(self) -> int:
        """Number of parts in which a minibatch is computed."""

    @property
    def processes(self) -> int:
        """Number of processes that the devices belong to."""

    @property
    def first(self) -> bool:
        """Whether this process is the first, which writes the results."""

    @property
    def process(self) -> int:
        """Index of this process."""

    def bounds(self, batch_size: int) -> np.ndarray:
        """Return the positions in a minibatch at which the cells of each process begin, and the end of the last."""

    def cut(self, batch_size: int, n_vars: int) -> Devices:
        """Return these devices, with cells taken in parts if that is faster for so many."""

    def groups(self, order: np.ndarray) -> np.ndarray:
        """Arrange the cells of the steps in `order` in rows of those computed together."""

    def make_batches(self, cells: CellData, halves: Halves, size: Size, batch_size: int) -> list[Batch]:
        """Place the arrays of a minibatch, of all its cells or those of this process, on the devices.

        The list has an item for each part that a device takes. `size` has the capacities of a part, and `batch_size` is
        the number of all cells.
        """

    def place(self, tree: Any) -> Any:
        """Move parameters to the devices."""

    def fetch(self, tree: Any) -> Any:
        """Move parameters to one device, for everything other than training steps."""

    def agree(self, tree: Any) -> Any:
        """Return the values of these arrays in the first process."""

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order: any objects, all of which each process holds for a moment."""

    def gradient(self, objective: Callable[[Any, Batch, Any], jax.Array]) -> Callable[[Any, Batch, Any], Any]:
        """Differentiate `objective`, summed over the devices, for one item of :meth:`make_batches`.

        Returns a function for value and gradient. Its third argument is the same on all devices.
        """


@dataclass(frozen=True)
class OneDevice:
    """JAX's default device.

    Parameters
    ----------
    parts
        Number of parts in which a minibatch is computed.
    """

    parts: int = 1
    number: ClassVar[int] = 1
    processes: ClassVar[int] = 1
    first: ClassVar[bool] = True
    process: ClassVar[int] = 0

    def bounds(self, batch_size: int) -> np.ndarray:
        """Return the bounds of the only process."""
        return np.array([0, batch_size])

    def cut(self, batch_size: int, n_vars: int) -> Devices:
        """Return the device, with cells taken in parts."""
        return OneDevice(parts_for(batch_size, n_vars))

    def groups(self, order: np.ndarray) -> np.ndarray:
        """Return the cells of each part."""
        return groups_of(order, self.parts)

    def make_batches(self, cells: CellData, halves: Halves, size: Size, batch_size: int) -> list[Batch]:
        """Return the arrays of all parts."""
        return parts_of(cells, halves, size, -(-batch_size // self.parts), range(self.parts))

    def place(self, tree: Any) -> Any:
        """Move parameters to the device."""
        return jax.device_put(tree)

    def fetch(self, tree: Any) -> Any:
        """Return the parameters, which are on the device already."""
        return tree

    def agree(self, tree: Any) -> Any:
        """Return `tree`: there is one process."""
        return tree

    def gather(self, value: Any) -> list[Any]:
        """Return `value` alone: there is one process."""
        return [value]

    def gradient(self, objective: Callable[[Any, Batch, Any], jax.Array]) -> Callable[[Any, Batch, Any], Any]:
        """Differentiate `objective`: a function for value and gradient."""
        return jax.value_and_grad(objective)


class SeveralDevices:
    """Devices of this process, or of several.

    Parameters
    ----------
    devices
        As JAX lists them. Each process makes the parts of a minibatch for its own devices.
    cuts
        Number of parts in which each takes its cells.
    """

    def __init__(self, devices: Sequence[Any], cuts: int = 1):
        self._devices, self._cuts = devices, cuts
        ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
        here = jax.process_index()
        self.number = len(ordered)
        self.parts = cuts * self.number
        of_process = Counter(device.process_index for device in ordered)
        self.processes, self.process = len(of_process), list(of_process).index(here)
        self.first = self.process == 0
        self._ends = np.cumsum([0, *of_process.values()])
        mine = [i for i, device in enumerate(ordered) if device.process_index == here]
        self._mine = [cuts * i + cut for i in mine for cut in range(cuts)]
        self._mesh = Mesh(np.array(ordered), (_AXIS,))
        self._cut, self._whole = NamedSharding(self._mesh, P(_AXIS)), NamedSharding(self._mesh, P())

    def bounds(self, batch_size: int) -> np.ndarray:
        """Return the bounds of each process, whose parts are contiguous."""
        return np.minimum(self._ends * self._cuts * -(-batch_size // self.parts), batch_size)

    def cut(self, batch_size: int, n_vars: int) -> Devices:
        """Return the devices, each taking its cells in parts."""
        return SeveralDevices(self._devices, parts_for(-(-batch_size // self.number), n_vars))

    def groups(self, order: np.ndarray) -> np.ndarray:
        """Return the cells of each part; a part that is not full repeats the last cell."""
        return groups_of(order, self.parts)

    def make_batches(self, cells: CellData, halves: Halves, size: Size, batch_size: int) -> list[Batch]:
        """Stack the arrays of one part for each device along a first axis, once for each part that a device takes."""
        here = self._mine if cells.n_obs == batch_size else range(len(self._mine))
        parts = parts_of(cells, halves, size, -(-batch_size // self.parts), here)
        return [self._together(parts[cut :: self._cuts]) for cut in range(self._cuts)]

    def _together(self, parts: list[Batch]) -> Batch:
        stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *parts)
        return jax.tree.map(partial(jax.make_array_from_process_local_data, self._cut), stacked)

    def place(self, tree: Any) -> Any:
        """Copy parameters to each device."""
        return jax.tree.map(
            partial(jax.make_array_from_process_local_data, self._whole), jax.tree.map(np.asarray, tree)
        )

    def fetch(self, tree: Any) -> Any:
        """Move parameters to the first device of this process."""
        return jax.device_put(jax.tree.map(np.asarray, tree))

    def agree(self, tree: Any) -> Any:
        """Return the values of the first process: others may differ by rounding, and would diverge."""
        if self.processes == 1:
            return tree
        from jax.experimental.multihost_utils import broadcast_one_to_all  # slow to import; only for several processes

        # As bytes: broadcast_one_to_all turns float64 and int64 into float32 and int32, and takes no strings (jax
        # 0.10.2).
        leaves, shape = jax.tree.flatten(jax.tree.map(np.asarray, tree))
        ends = np.cumsum([leaf.nbytes for leaf in leaves])[:-1]
        packed = np.frombuffer(b"".join(leaf.tobytes() for leaf in leaves), np.uint8)
        parts = np.split(np.asarray(broadcast_one_to_all(packed)), ends)
        arrays = [np.frombuffer(part.tobytes(), leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
        return jax.tree.unflatten(shape, [new.reshape(old.shape) for new, old in zip(arrays, leaves, strict=True)])

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, sent as pickles: they belong to one job and trust each other."""
        if self.processes == 1:
            return [value]
        from jax.experimental.multihost_utils import process_allgather  # as above

        packed = np.frombuffer(pickle.dumps(value), np.uint8)
        sizes = process_allgather(np.array([len(packed)]))[:, 0]
        padded = np.zeros(sizes.max(), np.uint8)
        padded[: len(packed)] = packed
        parts = process_allgather(padded)
        return [pickle.loads(part[:size].tobytes()) for part, size in zip(parts, sizes, strict=True)]

    def gradient(self, objective: Callable[[Any, Batch, Any], jax.Array]) -> Callable[[Any, Batch, Any], Any]:
        """Differentiate each device's part, and sum value and gradient over devices."""

        def of_part(params: Any, batch: Batch, same: Any) -> Any:
            part = jax.tree.map(lambda array: array[0], batch)
            return jax.lax.psum(jax.value_and_grad(objective)(params, part, same), _AXIS)

        return jax.shard_map(of_part, mesh=self._mesh, in_specs=(P(), P(_AXIS), P()), out_specs=P(), check_vma=False)


def devices_for(devices: int | str | None) -> Devices:
    """Return the devices that a user requested: None for one, ``"all"``, or a number of this process's devices."""
    check_platform()
    if devices is None or (devices == 1 and not isinstance(devices, bool)):
        return OneDevice()
    if devices == "all":
        chosen = jax.devices()
    else:
        if isinstance(devices, bool) or not isinstance(devices, int | np.integer) or devices < 1:
            raise ValueError(f"devices={devices!r}: use a number of devices, 1 or more, 'all', or None for one.")
        chosen = jax.local_devices()
        if devices > len(chosen):
            raise ValueError(
                f"devices={devices!r}: JAX has {len(chosen)} here ({chosen[0].platform}). Use at most these, or 'all'."
            )
        chosen = chosen[:devices]
    return OneDevice() if len(chosen) == 1 else SeveralDevices(chosen)
