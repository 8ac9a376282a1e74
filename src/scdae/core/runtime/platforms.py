"""Whether JAX can start here: its platforms, and processes that were forked."""

from __future__ import annotations

import os
import subprocess
import sys

import jax

__all__ = ["check_forked", "check_platform", "on_accelerator"]


class _Started:
    """Whether JAX was started by this package, in this process or in the one that it was forked from."""

    here = False
    in_parent = False


def _forked() -> None:
    _Started.in_parent = _Started.here or _Started.in_parent


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def check_platform() -> None:
    """Start JAX; an error in words if its environment variables name a platform that is not here.

    Raises
    ------
    RuntimeError
        This process was forked from one that had used JAX, whose threads it does not have: it would wait for ever.
    ValueError
        ``JAX_PLATFORMS`` (or ``JAX_PLATFORM_NAME``) names another one than there are; the message lists these.
    """
    check_forked()
    try:
        jax.devices()
        _Started.here = True
    except (RuntimeError, AssertionError) as error:
        given = {name: os.environ[name] for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME") if os.environ.get(name)}
        asked = ", ".join(f"{name}={value!r}" for name, value in given.items())
        asked = asked or f"JAX_PLATFORMS={jax.config.values.get('jax_platforms')!r} (set in Python)"
        reason = " ".join(str(error).split())[:150].rstrip(".")
        reason = f" ({reason})" if reason else ""
        raise ValueError(
            f"{asked}: JAX cannot use this here{reason}. Platforms here: {', '.join(_platforms())}. Set the variable to one of "
            "these, or unset it."
        ) from error


def check_forked() -> None:
    """Raise a RuntimeError where this process was forked from one that had used JAX, as :func:`check_platform` does."""
    if _Started.in_parent:
        raise RuntimeError(
            "This process was forked from one in which JAX was used already, and JAX would wait for ever here. Start it with "
            "multiprocessing.get_context('spawn'), or fork before scdae is used."
        )


def _platforms() -> list[str]:
    """Platforms that a process without the variables would find."""
    names = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    code = "import jax; print(*sorted({device.platform for device in jax.devices()}))"
    try:
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ["cpu"]
    return done.stdout.split() or ["cpu"]


def on_accelerator() -> bool:
    """Return whether JAX's default device is none of the host's processors."""
    return jax.default_backend() != "cpu"
