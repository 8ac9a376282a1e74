"""Restore single-cell RNA-seq counts with a denoising autoencoder, and say how sure the result is.

``scdae.pp.impute(adata)`` does it in one call; :class:`scdae.DAE` is the model beneath. Parts are loaded when they are
first used, so importing the package starts no device and is quick.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from scdae import _moved

if TYPE_CHECKING:
    from scdae import datasets, get, metrics, pl, pp, sklearn, tl
    from scdae._settings import settings
    from scdae.model import DAE

__all__ = ["DAE", "datasets", "get", "metrics", "pl", "pp", "settings", "sklearn", "tl"]
__version__ = version("scdae")

_moved.install()
_OBJECTS = {"DAE": "scdae.model", "settings": "scdae._settings"}


def __getattr__(name: str) -> Any:
    if name in _OBJECTS:
        value = getattr(import_module(_OBJECTS[name]), name)
    elif name in __all__:
        value = import_module(f"scdae.{name}")
    else:
        from scdae.arguments.functions import unknown_function  # late: it loads what the package has

        raise unknown_function("scdae", name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
