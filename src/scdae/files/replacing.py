"""Files and folders put in their place in one step: under their name lies the old one or the new one, whenever anyone looks.

What is being written has a hidden name beside its target, with the machine and the process in it, so that jobs do not meet and a
later job can remove what a process that was killed has left.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from scdae._log import get_logger
from scdae.core.runtime.stopping import Shield

__all__ = ["beside", "in_place", "is_alive", "put", "put_back", "remove", "this_machine", "tidy_up"]

_SHORTEST = 24  # letters of a target's name that a hidden name begins with, where it cannot have all
_LONGEST = 60.0  # seconds that two renames of a job on another machine may take
_SURE = 5  # looks, 20 ms apart, after which a folder that was removed is taken to stay away
_SEPARATE, _SWAP = 1, 2  # flags of renameat2: not over anything, and each in the place of the other
_MISSING = (
    errno.ENOSYS,
    errno.EINVAL,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EPERM,
)  # the file system has no such call
_HIDDEN = re.compile(r"\.(?P<where>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}\.(?P<kind>tmp|old)")


def beside(target: Path, kind: str = "tmp") -> Path:
    """Return a hidden name next to `target` that this process alone uses.

    Parameters
    ----------
    target
        Where the complete file will be.
    kind
        ``"tmp"`` for what is being written, ``"old"`` for what is on its way out.
    """
    return target.with_name(f"{_start_of(target)}.{this_machine()}-{os.getpid()}-{secrets.token_hex(4)}.{kind}")


@contextmanager
def in_place(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[tuple[Path, Shield]]:
    """Write under a hidden name; what is there when the block ends takes the place of `path`, and nothing if it raises.

    Links are followed, and the new file has the mode of the old one. The shield holds back signals, but within its `open`.

    Parameters
    ----------
    path
        The target.
    overwrite
        Whether something that is there by then is replaced.

    Raises
    ------
    FileExistsError
        There is something, and `overwrite` is False.
    """
    target = Path(os.path.realpath(path))
    complete = beside(target)
    with Shield() as shield:
        try:
            tidy_up(target)
            _begin(complete, target)
            yield complete, shield
            shield.look()
            if overwrite:
                _replace(complete, target)
            else:
                _add(complete, target, path)
        except BaseException:
            atexit.register(remove, complete)  # once more when other threads have ended
            remove(complete)
            raise
        if os.path.lexists(complete):
            remove(complete)  # the old one


def put(complete: Path, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Give what is complete, in a folder of its own on the same file system, its name in one step; it stays where that fails.

    Parameters
    ----------
    complete
        What was written; afterwards nothing is there.
    path
        The target; links are followed.
    overwrite
        Whether something that is there is replaced.

    Raises
    ------
    FileExistsError
        There is something, and `overwrite` is False.
    """
    target = Path(os.path.realpath(path))
    with Shield():
        if not overwrite:
            _add(complete, target, path)
            return
        _replace(complete, target)
        if os.path.lexists(complete):
            remove(complete)  # the old one


def _begin(complete: Path, target: Path) -> None:
    """Where what is there is not for everyone's eyes, what is to replace it never is, not even while it is written."""
    if not target.exists():
        return
    mode = stat.S_IMODE(target.stat().st_mode)
    if mode & 0o044 == 0o044:
        return
    if target.is_dir():
        complete.mkdir(0o700)
    else:
        os.close(os.open(complete, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def tidy_up(path: str | os.PathLike[str]) -> None:
    """Remove what processes of this machine that are no more have left beside a target, and put back what they took away."""
    target = Path(os.path.realpath(path))
    put_back(target)
    for leftover, kind in _left(target):
        if kind == "tmp" or os.path.lexists(target):
            with suppress(OSError):  # another user's, where each may remove only what is theirs
                remove(leftover)


def put_back(path: str | os.PathLike[str]) -> None:
    """Give a store its name back, if a process that was killed had moved it aside and not yet put the new one there."""
    target = Path(os.path.realpath(path))
    if os.path.lexists(target):
        return
    for leftover, kind in (*_left(target), *_left(target, elsewhere=True)):
        if kind == "old":
            try:
                os.rename(leftover, target)
            except OSError:  # another job was quicker
                continue
            get_logger().warning(
                f"scdae: {path} was being replaced by a job that was killed; what it held before is there again."
            )
            return


def remove(path: Path) -> None:
    """Remove a file or a folder, even while threads that were stopped still write a last part of it."""
    gone = _SURE  # looks in a row at which it was not there
    for _ in range(100):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
            gone = 0  # a thread may make the folder anew
        else:
            try:
                path.unlink(missing_ok=True)
            except OSError:
                if not path.is_dir():  # made anew since
                    raise
        if not os.path.lexists(path):
            if gone >= _SURE:
                return
            gone += 1
        time.sleep(0.02)


def _replace(complete: Path, target: Path) -> None:
    """One step where the system can exchange two names; else an old folder is moved aside first."""
    if target.exists():
        os.chmod(complete, stat.S_IMODE(target.stat().st_mode))
    if not target.is_dir():
        os.replace(complete, target)
        return
    if _rename(complete, target, _SWAP):
        return  # the old one has the hidden name now, and goes
    former = beside(target, "old")
    os.rename(target, former)
    try:
        os.rename(complete, target)
    except BaseException:
        os.rename(former, target)
        raise
    remove(former)


def _add(complete: Path, target: Path, shown: object) -> None:
    """Rename, but not over something that came in the meantime."""
    try:
        if _rename(complete, target, _SEPARATE):
            return
        if complete.is_dir():
            if os.path.lexists(target):
                raise FileExistsError
            os.rename(complete, target)  # fails where there is a folder that is not empty
        else:
            os.link(complete, target)
    except OSError as error:
        if os.path.lexists(target) and error.errno in (None, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(
                f"{shown} was made by something else in the meantime, and is left as it is. Choose another name, or pass "
                "overwrite=True to replace it."
            ) from error
        if complete.is_dir():
            raise
        os.rename(complete, target)  # a file system without links


def _rename(source: Path, target: Path, flag: int) -> bool:
    """Rename in the way that `flag` says; False where the system cannot."""
    function = _library()
    if function is None:
        return False
    here = -100  # AT_FDCWD: paths are as they are for everything else
    names = os.fsencode(source), os.fsencode(target)
    if sys.platform == "darwin":
        done = function(*names, {_SWAP: 2, _SEPARATE: 4}[flag])
    else:
        done = function(here, names[0], here, names[1], flag)
    if done == 0:
        return True
    number = ctypes.get_errno()
    if number in _MISSING:
        return False
    raise OSError(number, os.strerror(number), str(target))


@cache
def _library() -> Any:
    """The system's call for both."""
    name = "renamex_np" if sys.platform == "darwin" else "renameat2"
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (AttributeError, OSError, TypeError):
        return None
    path, number = ctypes.c_char_p, ctypes.c_int
    function.argtypes = (
        [path, path, ctypes.c_uint] if sys.platform == "darwin" else [number, path, number, path, ctypes.c_uint]
    )
    return function


def _start_of(target: Path) -> str:
    """What hidden names of this target begin with: its name, or a part of it and a sum where the name is long."""
    try:
        longest = os.pathconf(target.parent, "PC_NAME_MAX")
    except (OSError, ValueError, AttributeError):
        longest = 255
    room = longest - len(f".{this_machine()}-{2**22}-{'0' * 8}.tmp") - 2
    name = target.name
    if len(os.fsencode(name)) > room:
        name = f"{name[:_SHORTEST]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}"
    return f".{name}"


@cache
def this_machine() -> str:
    """Eight letters for this machine, or container: where a number of a process means the same one."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        space = 0
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _left(target: Path, *, elsewhere: bool = False) -> list[tuple[Path, str]]:
    """Return the hidden names beside `target` that processes of this machine left when they ended.

    Where `elsewhere`, of other machines that share the folder instead, if nothing has happened to them for longer than renames take.
    """
    leftovers, start = [], _start_of(target)
    try:
        names = os.listdir(target.parent)
    except OSError:
        return []
    for name in names:
        if not name.startswith(start):
            continue
        match = _HIDDEN.fullmatch(name[len(start) :])
        if match is None or elsewhere == (match["where"] == this_machine()):
            continue
        path = target.with_name(name)
        if _is_long_ago(path) if elsewhere else not is_alive(int(match["process"])):
            leftovers.append((path, match["kind"]))
    return leftovers


def _is_long_ago(path: Path) -> bool:
    """Return whether its last renaming or writing was long ago, by this machine's clock."""
    try:
        return time.time() - path.stat().st_ctime > _LONGEST
    except OSError:
        return False


def is_alive(process: int) -> bool:
    """Return whether a process with this number is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True
