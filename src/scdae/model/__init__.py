"""The fitted model as an object: restored, lazily or now, saved and loaded."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scdae.model.dae import DAE

__all__ = ["DAE"]


def __getattr__(name: str) -> Any:
    if name == "DAE":  # late, for most modules here are needed without it
        from scdae.model.dae import DAE

        return DAE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
