"""The folder of checkpoints: locked for one job, written by Orbax, which is kept quiet."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from scdae.core.runtime.again import Passing

__all__ = ["InUse", "Storage", "lock", "quiet"]

_KEPT = 2  # so that there is one left when the last is damaged


class InUse(ValueError, Passing):
    """Another job is using the folder."""


def lock(file: Any, folder: object) -> None:
    """Lock a file until it is closed or the process ends, however it ends."""
    import fcntl  # not on Windows

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUse(
            f"checkpoint_dir='{folder}': another job is using this folder. Wait for it, or choose another folder."
        ) from None
    except OSError:  # a file system without locks
        logging.getLogger("scdae").warning(
            f"scdae: {folder} cannot be locked; see to it that no other job uses it for its checkpoints."
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Orbax's own log, and what its threads print of errors that are raised here as well, from the user."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels, hook = [logger.level for logger in loggers], threading.excepthook
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    threading.excepthook = lambda *_: None
    try:
        yield
    finally:
        threading.excepthook = hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class Storage:
    """Numbered checkpoints in a folder. Orbax writes each under another name and renames it when it is complete.

    Parameters
    ----------
    folder
        An existing folder.
    """

    def __init__(self, folder: Path):
        from orbax.checkpoint import CheckpointManager, CheckpointManagerOptions, args  # takes a second, so only here
        from orbax.checkpoint.options import MultiprocessingOptions

        alone = None
        if jax.process_count() > 1:  # this process asks no other
            here = jax.process_index()
            alone = MultiprocessingOptions(
                primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"scdae-{here}"
            )
        options = CheckpointManagerOptions(
            max_to_keep=_KEPT,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,
            create=False,
            multiprocessing_options=alone or MultiprocessingOptions(),
        )
        self._args, self._manager = args, CheckpointManager(folder, options=options)

    def numbers(self) -> list[int]:
        """Return the numbers of all checkpoints, the last first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def write(self, number: int, packed: np.ndarray, record: dict[str, Any]) -> None:
        """Write a checkpoint: the bytes of its arrays, and everything else as JSON."""
        arrays = self._args.StandardSave({"packed": packed})
        self._manager.save(number, args=self._args.Composite(arrays=arrays, record=self._args.JsonSave(record)))

    def record(self, number: int) -> dict[str, Any]:
        """Read what was written as JSON."""
        record: dict[str, Any] = self._manager.restore(
            number, args=self._args.Composite(record=self._args.JsonRestore())
        ).record
        return record

    def packed(self, number: int) -> np.ndarray:
        """Read the bytes of the arrays."""
        read = self._manager.restore(number, args=self._args.Composite(arrays=self._args.StandardRestore()))
        return np.asarray(read.arrays["packed"])

    def close(self) -> None:
        """Let go of the folder."""
        self._manager.close()
