"""Where training stands, kept in a folder: a job that was killed goes on and ends with the bits it would have had."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import numpy as np

from scdae.core.network.principal_axes import Axes
from scdae.core.runtime.again import Passing
from scdae.core.runtime.memory import available_memory
from scdae.core.runtime.stopping import keeping, stop_if_asked
from scdae.core.training.fingerprint import differences, digest

__all__ = ["Checkpoints", "InUse", "Progress", "has_checkpoint", "open_checkpoints"]

_SECONDS = 60.0  # between checkpoints, unless steps are asked for
_KEPT = 2  # so that there is one left when the last is damaged
_LOCK = "in-use.lock"
_DAMAGED = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    OSError,
    RuntimeError,
)  # what reading a damaged checkpoint may raise


class InUse(ValueError, Passing):
    """Another job is using the folder."""


@dataclass
class Progress:
    """Where training stands after some steps; nothing else changes from one step to the next."""

    axes: Axes
    params: Any
    state: Any  # of the optimiser
    inflated: np.ndarray  # bool (n_vars,): genes with dropout
    best: tuple[Any, np.ndarray]  # parameters and genes with dropout: they go together, for dropout moves the means
    rng: np.random.Generator
    step: int = 0
    best_score: float = -np.inf
    n_worse: int = 0
    finished: bool = False
    losses: list[Any] = field(default_factory=list)  # since the last look at the held-out molecules
    history: dict[str, list[float]] = field(default_factory=lambda: {"step": [], "loss": [], "heldout_loglik": []})

    def look(self, score: float) -> None:
        """Note how well the held-out molecules are predicted now."""
        self.history["step"].append(float(self.step))
        self.history["loss"].append(float(np.mean([float(value) for value in self.losses])))
        self.history["heldout_loglik"].append(score)
        self.losses = []
        if score > self.best_score:
            self.best, self.best_score, self.n_worse = (self.params, self.inflated), score, 0
        else:
            self.n_worse += 1

    def _arrays(self) -> Any:
        axes = (self.axes.weight, self.axes.gene_mean, self.axes.effects)
        return axes, self.inflated, self.best[1], self.params, self.best[0], self.state

    def packed(self) -> np.ndarray:
        """The bytes of all arrays, one after the other."""
        leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(self._arrays())]
        return np.concatenate([leaf.reshape(-1).view(np.uint8) for leaf in leaves])

    def values(self) -> dict[str, Any]:
        """All else, as JSON."""
        names = ("step", "best_score", "n_worse", "finished", "history")
        losses = [float(loss) for loss in self.losses]
        return {name: getattr(self, name) for name in names} | {"losses": losses, "rng": self.rng.bit_generator.state}

    def restored(self, packed: np.ndarray, values: dict[str, Any]) -> Progress:
        """The progress of the same run that these bytes and values are of."""
        like, tree = jax.tree.flatten(self._arrays())
        parts = np.split(packed, np.cumsum([leaf.nbytes for leaf in like])[:-1])
        leaves = [part.view(leaf.dtype).reshape(leaf.shape) for part, leaf in zip(parts, like, strict=True)]
        axes, inflated, best_inflated, *rest = jax.tree.unflatten(tree, leaves)
        params, best_params, state = jax.device_put(rest)
        self.rng.bit_generator.state = values["rng"]
        return Progress(
            axes=replace(self.axes, weight=axes[0], gene_mean=axes[1], effects=axes[2]),
            params=params,
            state=state,
            inflated=inflated,
            best=(best_params, best_inflated),
            rng=self.rng,
            **{name: value for name, value in values.items() if name != "rng"},
        )

    def shared(self, agree: Callable[[Any], Any]) -> Progress:
        """The progress that the first of several processes has."""
        text = json.dumps(self.values()).encode()
        length = int(agree(np.array(len(text))))
        text = bytes(agree(np.frombuffer(text[:length].ljust(length), np.uint8)))
        return self.restored(agree(self.packed()), json.loads(text))


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
        self._manager: Any = None
        self._warned = False

    def claim(self, facts: dict[str, Any]) -> None:
        """Say which run it is, as :func:`scdae.core.training.fingerprint.fingerprint` does."""
        self._facts = json.loads(json.dumps(facts))
        self._manager = _manager(self.folder)

    def restore(self, start: Progress) -> Progress:
        """Where the run was; `start` when there is no checkpoint; an error when they are of another run."""
        numbers = sorted(self._manager.all_steps(), reverse=True)
        log = logging.getLogger("scdae")
        for number in numbers:
            try:
                found = self._read(number, start)
            except _DAMAGED as error:
                reason = " ".join(str(error).split())[:100]
                log.warning(f"scdae: the checkpoint {self.folder / str(number)} is damaged: {reason}")
                continue
            if isinstance(found, list):
                raise ValueError(
                    f"checkpoint_dir='{self.folder}': this checkpoint is of another run: {', '.join(found)} differ. Choose "
                    "another folder, or remove this one to start anew."
                )
            self._saved_step = found.step
            self._note(found.step)
            log.info(f"scdae: going on after step {found.step}, from the checkpoint in {self.folder}.")
            return found
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
            with suppress(Exception), _quiet():
                self.close()
            self._manager = None
            if not self._warned:
                reason = " ".join((getattr(error, "strerror", None) or str(error)).split())[:150]
                logging.getLogger("scdae").warning(
                    f"scdae: checkpoint_dir='{self.folder}': a checkpoint could not be written ({reason}). Training goes on without it "
                    "and tries again."
                )
            self._warned = True

    def save(self, progress: Progress) -> None:
        """Keep `progress`; once this returns, it outlives the process."""
        with _quiet():
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

    def _save(self, progress: Progress) -> None:
        from orbax.checkpoint import args

        if self._manager is None:  # after one that could not be written
            self.folder.mkdir(parents=True, exist_ok=True)
            self._manager = _manager(self.folder)
        check_fits(progress)
        packed = progress.packed()
        record = {"facts": self._facts, "digest": digest([packed]), "progress": progress.values()}
        record["sum"] = _sum(record)
        number = max(self._manager.all_steps(), default=0) + 1
        arrays = args.StandardSave({"packed": packed})
        self._manager.save(number, args=args.Composite(arrays=arrays, record=args.JsonSave(record)))

    def close(self) -> None:
        """Let go of the folder."""
        if self._manager is not None:
            self._manager.close()

    def _read(self, number: int, start: Progress) -> Progress | list[str]:
        """One checkpoint; what differs if it is of another run; an error of `_DAMAGED` if it is not whole."""
        from orbax.checkpoint import args

        record = self._manager.restore(number, args=args.Composite(record=args.JsonRestore())).record
        found = differences(record["facts"], self._facts)
        if found:
            return found
        if record.get("sum", "") not in ("", _sum(record)):  # those of earlier versions have none
            raise ValueError("its record was changed")
        packed = self._manager.restore(number, args=args.Composite(arrays=args.StandardRestore())).arrays["packed"]
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
    if not first:
        yield _OfAnother(path, None)
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / _LOCK).open("a")
    except OSError as error:
        raise type(error)(
            f"checkpoint_dir='{folder}': this folder cannot be made or written to ({error.strerror}). Choose another."
        ) from error
    with lock:
        _hold(lock, folder)
        checkpoints = Checkpoints(path, None if every is None else int(every))
        try:
            yield checkpoints
        finally:
            with _quiet():
                checkpoints.close()


def check_fits(progress: Progress) -> None:
    """Raise MemoryError unless there is memory for the bytes of a checkpoint, twice: a job that takes more than it has is killed."""
    size = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(progress._arrays()))
    free = available_memory()
    if free is not None and size > free:
        raise MemoryError(f"it takes {size / 2**20:,.0f} MiB of memory, and {free / 2**20:,.0f} MiB are free")


def _sum(record: dict[str, Any]) -> str:
    """SHA-256 of all that is not arrays."""
    text = json.dumps({name: value for name, value in record.items() if name != "sum"}, sort_keys=True)
    return digest([np.frombuffer(text.encode(), np.uint8)])


@contextmanager
def _quiet() -> Iterator[None]:
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


def has_checkpoint(folder: str | PathLike[str]) -> bool:
    """Whether there is one in the folder."""
    path = Path(folder).expanduser()
    return path.is_dir() and any(part.name.isdigit() for part in path.iterdir())


def _hold(lock: Any, folder: object) -> None:
    """Lock a file until it is closed or the process ends, however it ends."""
    import fcntl  # not on Windows

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUse(
            f"checkpoint_dir='{folder}': another job is using this folder. Wait for it, or choose another folder."
        ) from None
    except OSError:  # a file system without locks
        logging.getLogger("scdae").warning(
            f"scdae: {folder} cannot be locked; see to it that no other job uses it for its checkpoints."
        )


def _manager(folder: Path) -> Any:
    """Orbax writes each checkpoint under another name and renames it when it is complete."""
    from orbax.checkpoint import CheckpointManager, CheckpointManagerOptions
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
    return CheckpointManager(folder, options=options)
