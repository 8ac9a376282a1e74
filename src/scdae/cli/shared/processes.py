"""One training by several devices, and by several processes that find one another."""

from __future__ import annotations

import os
import re
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer

from scdae.cli.shared.codes import Again
from scdae.cli.shared.common import one_line_errors
from scdae.core.runtime.stopping import Stopped, is_noting, note_signals, stop_words

__all__ = [
    "Coordinator",
    "Distributed",
    "NumDevices",
    "NumProcesses",
    "ProcessId",
    "chosen_devices",
    "is_first",
    "processes",
]

_LAST = 0.5  # seconds by which the first process ends after the others
_HEARTBEAT = 30  # seconds after which a process that is not heard of is taken for dead

NumDevices = Annotated[
    str | None,
    typer.Option(
        "--devices",
        metavar="N",
        help="Devices that share each step, or 'all'.",
        show_default="one",
        rich_help_panel="Jobs",
    ),
]
Distributed = Annotated[
    bool,
    typer.Option(
        "--distributed",
        help="Train with all devices of all processes of this job; SLURM, Open MPI and Kubernetes say which these are.",
        rich_help_panel="Jobs",
    ),
]
Coordinator = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Where the processes meet, for --distributed elsewhere.",
        show_default=False,
        rich_help_panel="Jobs",
    ),
]
NumProcesses = Annotated[
    int | None, typer.Option(min=1, help="How many there are.", show_default=False, rich_help_panel="Jobs")
]
ProcessId = Annotated[
    int | None, typer.Option(min=0, help="Number of this one, from 0.", show_default=False, rich_help_panel="Jobs")
]


def chosen_devices(devices: str | None, distributed: bool) -> int | str | None:
    """Argument of the fit: all where there are several processes."""
    if distributed:
        if devices not in (None, "all"):
            raise ValueError(
                f"--devices {devices}: with --distributed all devices of all processes train. Leave it out."
            )
        return "all"
    if devices is None or devices == "all":
        return devices
    if not devices.isdigit():
        raise ValueError(f"--devices {devices}: use a number of devices, or 'all'.")
    return int(devices)


def is_first(distributed: bool) -> bool:
    """Return whether this process is the one that writes."""
    import jax

    return not distributed or jax.process_index() == 0


@contextmanager
def processes(
    distributed: bool, coordinator: str | None, number: int | None, this: int | None, *, debug: bool
) -> Iterator[None]:
    """Meet the other processes, and end when they have ended.

    After an error this process ends at once: it would wait for others in vain, and they are to notice.
    """
    if not distributed:
        if (coordinator, number, this) != (None, None, None):
            raise typer.BadParameter("--coordinator, --num-processes and --process-id belong to --distributed.")
        yield
        return
    with one_line_errors(debug, about="--distributed"):
        _meet(coordinator, number, this)
    code: int = 1
    try:
        yield
        from jax.experimental.multihost_utils import sync_global_devices

        with one_line_errors(debug, about="--distributed"):
            sync_global_devices("scdae: the model is written")
        code = 0
    except typer.Exit as end:
        code = end.exit_code
        raise
    except Stopped as end:
        code = 128 + end.number
        typer.echo(stop_words(end.number), err=True)
        if is_first(True):
            time.sleep(_LAST)  # the others meet at this one, and fall where it is gone
        raise
    finally:
        if code:
            if debug:
                traceback.print_exc()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)


def _meet(coordinator: str | None, number: int | None, this: int | None) -> None:
    import jax

    given = (coordinator is None, number is None, this is None)
    if any(given) and not all(given):
        raise ValueError("give --coordinator, --num-processes and --process-id together, or none of them on a cluster.")
    if all(given) and os.environ.get("SLURM_JOB_ID") and not os.environ.get("SLURM_STEP_NODELIST"):
        raise ValueError(
            f"SLURM job {os.environ['SLURM_JOB_ID']} has no step here, so that this process knows of no other. Start it with srun: srun "
            "scdae fit ... --distributed."
        )
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    with suppress(AttributeError):  # it takes SIGTERM away from whoever has it
        jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator, number, this, heartbeat_timeout_seconds=_HEARTBEAT, shutdown_timeout_seconds=2 * _HEARTBEAT
        )
    except (ValueError, RuntimeError) as error:
        kind = Again if re.search("DEADLINE_EXCEEDED|UNAVAILABLE|[Tt]imed? ?out", str(error)) else ValueError
        raise kind(
            f"the processes did not meet: {error} Outside of SLURM, Open MPI and Kubernetes pass --coordinator HOST:PORT, "
            "--num-processes N and --process-id I."
        ) from error
    finally:
        if is_noting():
            note_signals()
