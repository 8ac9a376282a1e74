"""What many tasks of a graph share: one object, which other processes get as bytes and open where they use it."""

from __future__ import annotations

import io
import secrets
import threading
from collections import OrderedDict
from functools import lru_cache
from typing import Any

import cloudpickle
import h5py

__all__ = ["Sent"]

_KEPT = 4  # objects that a process keeps open, for the tasks that come one by one


class Sent:
    """An object that is here already, or arrives as bytes and is opened by the first task that asks for it.

    Whoever only passes it on, such as the scheduler of a cluster, reads bytes: it needs none of what the object is made of, and
    starts no JAX. A process that gets it with each of its tasks opens it once. What lies in a file of HDF5 is found again by its path.

    Parameters
    ----------
    value
        The object. It is taken as it is when it is first sent, and is not to be changed after that.
    **notes
        Attributes that this process alone has; :meth:`note` gives them back.

    Examples
    --------
    >>> import pickle
    >>> sent = Sent({"genes": 3}, home=True)
    >>> there = pickle.loads(pickle.dumps(sent))
    >>> there.open(), there.note("home")
    ({'genes': 3}, None)
    """

    def __init__(self, value: Any, **notes: Any):
        self._token = secrets.token_hex(8)
        self._value, self._notes = value, notes
        self._bytes: bytes | None = None

    def open(self) -> Any:
        """Return the object."""
        return _opened(self._token, self._bytes) if self._value is None else self._value

    def note(self, name: str) -> Any:
        """Return what this process knows about it; None in others."""
        return self._notes.get(name)

    def __getstate__(self) -> dict[str, Any]:
        if self._bytes is None:
            self._bytes = _packed(self._value)
        return {"_token": self._token, "_value": None, "_bytes": self._bytes, "_notes": {}}

    def __deepcopy__(self, known: Any) -> Sent:
        return self  # nobody changes it

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + len(self._bytes or b"")


class _Packer(cloudpickle.Pickler):
    """Pickles by value what other processes lack, and parts of HDF5 files by their path."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, (h5py.Dataset, h5py.Group)):
            if not obj:
                raise OSError(
                    "The counts lie in a file that has been closed since, so that no other process can be told where they are. "
                    "Open it again and make the lazy layer anew."
                )
            return _again, (obj.file.filename, obj.name)
        return super().reducer_override(obj)


def _packed(value: Any) -> bytes:
    stream = io.BytesIO()
    _Packer(stream, protocol=5).dump(value)
    return stream.getvalue()


def _again(path: str, name: str) -> Any:
    """Return a part of a file, in another process."""
    file = _file(path)
    return file if name == "/" else file[name]


@lru_cache(maxsize=64)  # files that are open at the same time
def _file(path: str) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise OSError(
            f"{path} cannot be opened by this process ({error}). Processes that work out a lazy layer of a file open it by its "
            "path: it has to be the same on all machines, and no process may have it open for writing."
        ) from error


_open: OrderedDict[str, Any] = OrderedDict()
_lock = threading.Lock()


def _opened(token: str, packed: bytes | None) -> Any:
    """Return the object behind some bytes; several threads may ask at once."""
    with _lock:
        if token not in _open:
            _open[token] = cloudpickle.loads(packed or b"")
            while len(_open) > _KEPT:
                _open.popitem(last=False)
        _open.move_to_end(token)
        return _open[token]
