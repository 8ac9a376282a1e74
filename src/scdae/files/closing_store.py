"""A zarr store that takes nothing more once it is closed: its threads write on when the one that waits for them is stopped."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zarr.storage import LocalStore

__all__ = ["ClosingStore"]

_LATEST = 10.0  # seconds for which writes that have begun are waited for


class ClosingStore(LocalStore):
    """A folder that zarr writes to until it is told to stop.

    zarr writes in threads of its own, and goes on with all of an array when what waits for that is interrupted. Nobody can
    then remove the folder: the next chunk makes it anew.

    Parameters
    ----------
    root
        The folder, which may not exist yet.

    Examples
    --------
    >>> import os, tempfile, zarr
    >>> folder = tempfile.mkdtemp()
    >>> store = ClosingStore(folder + "/a.zarr")
    >>> store.end()
    >>> zarr.open_group(store, mode="w")
    Traceback (most recent call last):
    ...
    RuntimeError: This store takes nothing more.
    >>> [name for *_, names in os.walk(folder) for name in names]
    []
    """

    def __init__(self, root: Any, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._writes = 0
        self._ended = self._away = False
        self._changed = threading.Condition()

    def __fspath__(self) -> str:
        return str(self.root)

    def __getstate__(self) -> dict[str, Any]:
        """In another process it can be written to as long as the folder is there: it is taken away when the one that waits gives up."""
        return {"root": self.root, "read_only": self.read_only}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["root"], read_only=state["read_only"])  # type: ignore[misc]
        self._is_open = True
        self._away = True

    def end(self) -> None:
        """Let no further write begin, and wait for those that have begun."""
        latest = time.monotonic() + _LATEST
        with self._changed:
            self._ended = True
            while self._writes and time.monotonic() < latest:
                self._changed.wait(0.1)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._changed:
            if self._ended or (self._away and not self.root.is_dir()):
                raise RuntimeError("This store takes nothing more.")
            self._writes += 1
        try:
            yield
        finally:
            with self._changed:
                self._writes -= 1
                self._changed.notify_all()

    async def _open(self, **options: Any) -> None:
        with self._writing():  # makes the folder
            await super()._open(**options)

    async def clear(self) -> None:
        """Remove all that is there; the folder itself stays, with the mode that it was made with."""
        with self._writing():
            for path in self.root.iterdir() if self.root.is_dir() else ():
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    async def delete_dir(self, prefix: str) -> None:
        """Remove a folder, or what is in it where it is the whole store."""
        await (super().delete_dir(prefix) if prefix.strip("/") else self.clear())

    async def set(self, key: str, value: Any) -> None:
        """Write a value."""
        with self._writing():
            await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        """Write a value where there is none."""
        with self._writing():
            await super().set_if_not_exists(key, value)

    def set_sync(self, key: str, value: Any) -> None:
        """Write a value, in a thread of the caller's."""
        with self._writing():
            super().set_sync(key, value)
