"""What the commands share. `data` and `parts`, which load pandas, come when a command has begun, so that help comes at once."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scdae.cli.shared import data, parts

__all__ = ["data", "parts"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
