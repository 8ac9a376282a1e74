"""The folder in which a store grows: its plan, which parts are there, and who is writing.

``OUTPUT.zarr.parts`` holds ``plan.json``; ``store.zarr``, which becomes OUTPUT; ``pieces``, of sparse layers, whose places in the
store are known when all are there; ``done``, one file for each part that is whole; and ``locks``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scdae._log import get_logger
from scdae.core.runtime.again import Passing
from scdae.files.replacing import beside, put, remove, tidy_up
from scdae.files.targets import write_text
from scdae.parts.plan import Plan, check_same, read_plan

__all__ = ["Folder", "InUse"]


class InUse(ValueError, Passing):
    """Another process is at work there."""


class Folder:
    """The folder of a store that grows.

    Parameters
    ----------
    target
        Where the store will be: OUTPUT.
    """

    def __init__(self, target: str | os.PathLike[str]):
        self.target = Path(target)
        real = Path(os.path.realpath(target))
        self.path = real.with_name(f"{real.name}.parts")

    @property
    def store(self) -> Path:
        """The store."""
        return self.path / "store.zarr"

    def pieces(self, layer: int) -> Path:
        """Return the folder of the pieces of a sparse layer, by its number."""
        return self.path / "pieces" / str(layer)

    def plan(self) -> Plan | None:
        """Read the plan; None where no part was begun."""
        return read_plan(self.path / "plan.json") if self.path.is_dir() else None

    def begin(self, plan: Plan, make: Callable[[Path, Plan], None]) -> Plan:
        """Make the folder in one step, or find that it is there for parts like this one.

        Parameters
        ----------
        plan
            The plan of the part that is to come.
        make
            Makes the empty store.

        Returns
        -------
        Plan
            The one that holds: of the first part.

        Raises
        ------
        ValueError
            The parts that are there are of something else.
        """
        if not self.path.is_dir():
            tidy_up(self.path)
            hidden = beside(self.path)
            try:
                for name in ("done", "locks", "pieces"):
                    (hidden / name).mkdir(parents=True)
                (hidden / "plan.json").write_text(plan.to_json(), encoding="utf-8")
                make(hidden / "store.zarr", plan)
                with suppress(FileExistsError):  # another part was quicker
                    put(hidden, self.path)
            finally:
                if hidden.exists():
                    remove(hidden)
        there = read_plan(self.path / "plan.json")
        check_same(there, plan, self.path)
        if not self.store.is_dir():
            raise InUse(f"{self.path} was collected, and is being removed. Look at {self.target}.")
        return there

    def done(self, part: int) -> dict[str, Any] | None:
        """Read the notes of a complete part; None where it is not complete."""
        path = self._mark(part)
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ValueError(f"{path} is damaged. Remove it, and restore part {part} again.") from error
        return found

    def mark(self, part: int, about: dict[str, Any]) -> None:
        """Record that a part is complete."""
        write_text(self._mark(part), json.dumps(about) + "\n")

    def unmark(self, part: int) -> None:
        """Remove the record of a part that is about to be written again."""
        self._mark(part).unlink(missing_ok=True)

    def missing(self, n_parts: int) -> list[int]:
        """Return the numbers of the missing parts."""
        return [part for part in range(1, n_parts + 1) if not self._mark(part).exists()]

    @contextmanager
    def writing(self, part: int) -> Iterator[None]:
        """Keep others from writing this part, and from collecting."""
        others = f"{self.path} is being collected. Wait for it."
        same = f"{self.path}: another process is writing part {part}. Wait for it to end."
        with self._locked("all", others, shared=True), self._locked(str(part), same):
            yield

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Keep all others from writing."""
        with self._locked(
            "all", f"{self.path}: a part is being written, or another process collects. Wait for it to end."
        ):
            yield

    def _mark(self, part: int) -> Path:
        return self.path / "done" / f"{part}.json"

    @contextmanager
    def _locked(self, name: str, otherwise: str, *, shared: bool = False) -> Iterator[None]:
        """Lock a file until this ends or the process does, however it ends."""
        import fcntl  # not on Windows

        with (self.path / "locks" / name).open("a") as file:
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InUse(otherwise) from None
            except OSError:  # a file system without locks
                get_logger().warning(
                    f"scdae: {self.path} cannot be locked; see to it that no part is written by two processes at once."
                )
            yield
