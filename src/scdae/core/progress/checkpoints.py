"""Checkpoints of a training run: a job that was killed goes on and ends with the bits it would have had."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from scdae.core.progress.fingerprint import differences, digest
from scdae.core.progress.state import Progress, check_fits
from scdae.core.progress.storage import InUse, Storage, lock, quiet
from scdae.core.runtime.stopping import keeping, stop_if_asked

__all__ = ["Checkpoints", "InUse", "has_checkpoint", "open_checkpoints"]

_SECONDS = 60.0  # between checkpoints, unless steps are asked for
_LOCK = "in-use.lock"
_STORE = ("zarr.json", ".zgroup", ".zmetadata", ".zarray")  # at the root of what holds data
_DAMAGED = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    OSError,
    RuntimeError,
)  # what reading a damaged checkpoint may raise


class Checkpoints:
    """The checkpoints of one run.

    Parameters
    ----------
    folder
        Where they are.
    every
        Steps between them; None for a minute.
    """

    def __init__(self, folder: Path, every: int | None):
        self.folder, self.every = folder, every
        self._saved_at, self._saved_step = time.monotonic(), 0
        self._facts: dict[str, Any] = {}
        self._storage: Storage | None = None
        self._warned = False

    def claim(self, facts: dict[str, Any]) -> None:
        """Say which run it is, as :func:`scdae.core.progress.fingerprint.fingerprint` does."""
        self._facts = json.loads(json.dumps(facts))
        self._storage = Storage(self.folder)

    def restore(self, start: Progress) -> Progress:
        """Where the run was; `start` when there is no checkpoint; an error when they are of another run."""
        storage = self._open()
        numbers = storage.numbers()
        log = logging.getLogger("scdae")
        for number in numbers:
            try:
                progress = self._read(storage, number, start)
            except _DAMAGED as error:
                reason = " ".join(str(error).split())[:100]
                log.warning(f"scdae: the checkpoint {self.folder / str(number)} is damaged: {reason}")
                continue
            if isinstance(progress, list):
                raise ValueError(
                    f"checkpoint_dir='{self.folder}': this checkpoint is of another run: {', '.join(progress)} differ. Choose "
                    "another folder, or remove this one to start anew."
                )
            self._saved_step = progress.step
            self._note(progress.step)
            log.info(f"scdae: going on after step {progress.step}, from the checkpoint in {self.folder}.")
            return progress
        if numbers:
            raise ValueError(
                f"checkpoint_dir='{self.folder}': no checkpoint in this folder can be read; they are damaged or not of scdae. "
                "Choose another folder, or remove this one to start anew."
            )
        return start

    def due(self, step: int) -> bool:
        """Whether it is time for one after this step."""
        if self.every is not None:
            return step - self._saved_step >= self.every
        return time.monotonic() - self._saved_at >= _SECONDS

    def keep(self, progress: Progress) -> None:
        """Save `progress`; where that fails, say so once and try again at the next time: training is worth more than its copy."""
        try:
            self.save(progress)
        except Exception as error:  # noqa: BLE001 (of whatever kind: Orbax, its storage and the system have many)
            stop_if_asked()
            self._saved_at, self._saved_step = time.monotonic(), progress.step
            with suppress(Exception), quiet():
                self.close()
            self._storage = None
            if not self._warned:
                reason = " ".join((getattr(error, "strerror", None) or str(error)).split())[:150]
                logging.getLogger("scdae").warning(
                    f"scdae: checkpoint_dir='{self.folder}': a checkpoint could not be written ({reason}). Training goes on without it "
                    "and tries again."
                )
            self._warned = True

    def save(self, progress: Progress) -> None:
        """Keep `progress`; once this returns, it outlives the process."""
        with quiet():
            self._save(progress)
        self._saved_at, self._saved_step = time.monotonic(), progress.step
        self._warned = False
        self._note(progress.step)

    def keep_last(self, progress: Progress) -> None:
        """Save `progress` of a run that is told to stop, unless that is there; where it fails, an earlier one is left."""
        if progress.step == self._saved_step:
            return
        try:
            self.save(progress)
        except Exception as error:  # noqa: BLE001 (see `keep`)
            logging.getLogger("scdae").warning(
                f"scdae: checkpoint_dir='{self.folder}': a last checkpoint could not be written ({' '.join(str(error).split())[:150]})."
            )

    def _note(self, step: int) -> None:
        keeping(
            "training",
            f"the checkpoint of step {step:,} is kept in {self.folder}, and the same command goes on from there",
        )

    def _open(self) -> Storage:
        if self._storage is None:  # after a checkpoint that could not be written
            self.folder.mkdir(parents=True, exist_ok=True)
            self._storage = Storage(self.folder)
        return self._storage

    def _save(self, progress: Progress) -> None:
        storage = self._open()
        check_fits(progress)
        packed = progress.packed()
        record = {"facts": self._facts, "digest": digest([packed]), "progress": progress.values()}
        record["sum"] = _sum(record)
        storage.write(max(storage.numbers(), default=0) + 1, packed, record)

    def close(self) -> None:
        """Let go of the folder."""
        if self._storage is not None:
            self._storage.close()

    def _read(self, storage: Storage, number: int, start: Progress) -> Progress | list[str]:
        """One checkpoint; what differs if it is of another run; an error of `_DAMAGED` if it is not whole."""
        record = storage.record(number)
        different = differences(record["facts"], self._facts)
        if different:
            return different
        if record.get("sum", "") not in ("", _sum(record)):  # those of earlier versions have none
            raise ValueError("its record was changed")
        packed = storage.packed(number)
        if digest([packed]) != record["digest"]:
            raise ValueError("its sum is wrong")
        return start.restored(packed, record["progress"])


class _OfAnother(Checkpoints):
    """Those that another process of the same job keeps."""

    def keep_last(self, progress: Progress) -> None:
        self._note(progress.step)

    def claim(self, facts: dict[str, Any]) -> None:
        keeping("training", f"the first process says what is kept in {self.folder}")

    def restore(self, start: Progress) -> Progress:
        return start

    def due(self, step: int) -> bool:
        return False

    def save(self, progress: Progress) -> None:
        pass


@contextmanager
def open_checkpoints(
    folder: str | PathLike[str] | None, every: int | None = None, *, first: bool = True
) -> Iterator[Checkpoints | None]:
    """Hold a folder of checkpoints, which is made if it is not there; None for no folder.

    Of several processes that train together the first alone reads and writes it.

    Raises
    ------
    ValueError, OSError
        It is no folder, cannot be written to, or another job is using it.
    """
    if every is not None and (isinstance(every, bool) or not isinstance(every, int | np.integer) or every < 1):
        raise ValueError(f"checkpoint_every={every!r}: use a whole number of steps, 1 or more, or None for a minute.")
    if folder is None:
        if every is not None:
            raise ValueError(
                f"checkpoint_every={every!r} says how often, but not where. Pass checkpoint_dir=... as well."
            )
        yield None
        return
    path = Path(folder).expanduser().absolute()
    if any((path / name).is_file() for name in _STORE):
        raise ValueError(f"checkpoint_dir='{folder}': this is a zarr store. Choose a folder of its own.")
    if not first:
        yield _OfAnother(path, None)
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / _LOCK).open("a")
    except OSError as error:
        raise type(error)(
            f"checkpoint_dir='{folder}': this folder cannot be made or written to ({error.strerror}). Choose another."
        ) from error
    with file:
        lock(file, folder)
        checkpoints = Checkpoints(path, None if every is None else int(every))
        try:
            yield checkpoints
        finally:
            with quiet():
                checkpoints.close()


def _sum(record: dict[str, Any]) -> str:
    """SHA-256 of all that is not arrays."""
    text = json.dumps({name: value for name, value in record.items() if name != "sum"}, sort_keys=True)
    return digest([np.frombuffer(text.encode(), np.uint8)])


def has_checkpoint(folder: str | PathLike[str]) -> bool:
    """Whether there is one in the folder."""
    path = Path(folder).expanduser()
    return path.is_dir() and any(part.name.isdigit() for part in path.iterdir())
