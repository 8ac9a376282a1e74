"""Modules that lay elsewhere in 0.1: their old names still import, with a warning, for those that the API page lists or scripts use."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["MOVED", "install"]

MOVED = {
    "scdae.core.checkpoints": "scdae.core.progress.checkpoints",
    "scdae.core.likelihoods": "scdae.core.distributions.likelihoods",
    "scdae.core.posterior": "scdae.core.distributions.posterior",
    "scdae.core.predictive": "scdae.core.distributions.predictive",
    "scdae.core.purification": "scdae.core.guard.purification",
    "scdae.core.thinning": "scdae.core.data.thinning",
    "scdae.output": "scdae.io.write",
    "scdae.posterior": "scdae.model.posterior",
}


class _Moved(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        new = MOVED[module.__name__]
        warnings.warn(
            f"{module.__name__} is now {new}; the old name goes with the next version.",
            DeprecationWarning,
            stacklevel=2,
        )
        module.__dict__.update(
            {k: v for k, v in vars(import_module(new)).items() if not k.startswith("__") or k == "__all__"}
        )


def install() -> None:
    """Let the old names import; a second call changes nothing."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
