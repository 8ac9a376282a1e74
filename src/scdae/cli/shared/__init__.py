"""What the commands share. `data`, which loads pandas, comes when a command has begun, so that help comes at once."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scdae.cli.shared import data

__all__ = ["data"]


def __getattr__(name: str) -> Any:
    if name != "data":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.data")
