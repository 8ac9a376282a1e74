"""How large chunks are, how many are worked out side by side, and what is too large to be held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anndata

from scdae._log import get_logger
from scdae.core.runtime.memory import available_memory
from scdae.core.runtime.threads import usable_cores

__all__ = ["CHUNK_VALUES", "choose_lazy", "chunks_at_once", "whole_chunks"]


CHUNK_VALUES = 2**24  # values of a chunk, about
_COPIES = 5  # of a chunk, while it is worked out
_SHARE = 0.5  # of the memory that is free, beyond which a layer is not held


@contextmanager
def whole_chunks() -> Iterator[None]:
    """Have anndata write .zarr files without shards, if it knows of them.

    A shard holds several chunks in one file, which is written anew for each chunk of a dask array that reaches it: five
    times the bytes, and more memory than the chunk. anndata 0.13 chooses shards by itself.
    """
    if not hasattr(anndata.settings, "auto_shard_zarr_v3"):
        yield
        return
    with anndata.settings.override(auto_shard_zarr_v3=False):
        yield


def chunks_at_once() -> int:
    """Chunks that threads work out side by side: as many as there are cores to use, and memory for."""
    free = available_memory()
    most = usable_cores()
    return most if free is None else max(min(most, int(_SHARE * free / (_COPIES * 4 * CHUNK_VALUES))), 1)


def choose_lazy(wanted: bool | None, n_bytes: int, *, quiet: bool = False) -> bool:
    """Return whether layers of that size are to be lazy: as asked, or where they would take more than half of the free memory."""
    if wanted is not None:
        return wanted
    free = available_memory()
    if free is None or n_bytes <= _SHARE * free:
        return False
    if quiet:
        return True
    get_logger().warning(
        f"scdae: the output would take {n_bytes / 2**30:,.1f} GiB, and {free / 2**30:,.1f} GiB of memory are free, so it is a "
        "dask array that is worked out where it is looked at. lazy=False holds it all the same; threshold= leaves out "
        "what is next to nothing."
    )
    return True
