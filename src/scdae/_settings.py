"""How much scdae says: follows scanpy's verbosity unless set here.

``scdae.settings.verbosity`` is 0 (errors), 1 (warnings), 2 (info) or 3 (hints). It starts as scanpy's own setting where
scanpy is loaded, and as 1 elsewhere.
"""

from __future__ import annotations

import sys
from types import ModuleType

__all__ = ["Settings", "settings"]


class Settings:
    """Settings of the package that are no matter of the model.

    Examples
    --------
    >>> import scdae
    >>> scdae.settings.verbosity = 1
    """

    def __init__(self) -> None:
        self._verbosity: int | None = None

    @property
    def verbosity(self) -> int:
        """0 errors, 1 warnings, 2 info, 3 hints; scanpy's value until it is set here."""
        if self._verbosity is not None:
            return self._verbosity
        scanpy: ModuleType | None = sys.modules.get("scanpy")
        level = getattr(getattr(scanpy, "settings", None), "verbosity", 1)
        return min(int(getattr(level, "value", level)), 3)  # scanpy goes up to 4, debug

    @verbosity.setter
    def verbosity(self, value: int | None) -> None:
        if value is not None and (isinstance(value, bool) or value not in (0, 1, 2, 3)):
            raise ValueError(
                f"settings.verbosity = {value!r}: use 0 (errors), 1 (warnings), 2 (info), 3 (hints), or None to follow "
                "scanpy."
            )
        self._verbosity = None if value is None else int(value)


settings = Settings()
