"""How much scdae says, and how many counts it holds.

``scdae.settings.verbosity`` is 0 (errors), 1 (warnings, and a line on what came of a call), 2 (info) or 3 (hints). It
starts as scanpy's own setting where scanpy is loaded, and as 1 elsewhere. ``scdae.settings.max_entries`` says from what
size on counts are read by blocks.
"""

from __future__ import annotations

import os
import sys
from numbers import Real
from pathlib import Path
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
        self._max_entries = 50_000_000
        self._kept_fits = 4
        self._compilation_cache: str | None = None

    @property
    def verbosity(self) -> int:
        """0 errors, 1 warnings and a line on what came of a call, 2 info, 3 hints; scanpy's value until it is set here."""
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

    @property
    def max_entries(self) -> int:
        """Stored entries (counts above zero) up to which a data set is copied into memory, 8 bytes each, to work on it.

        More than that are read by blocks, from memory or file, and the network is trained on them as they come.
        """
        return self._max_entries

    @max_entries.setter
    def max_entries(self, value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, Real) or not value >= 0 or value % 1:
            raise ValueError(f"settings.max_entries = {value!r}: use a whole number of entries, 0 or more.")
        self._max_entries = int(value)

    @property
    def kept_fits(self) -> int:
        """Fits that a process keeps, without their counts, for the next call on the same counts with the same settings.

        A second :func:`scdae.pp.impute`, or :func:`scdae.tl.rank_genes` after it, then trains nothing, and
        :func:`scdae.get.model` gives the model. 0 keeps none.
        """
        return self._kept_fits

    @kept_fits.setter
    def kept_fits(self, value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, Real) or not value >= 0 or value % 1:
            raise ValueError(f"settings.kept_fits = {value!r}: use a whole number of fits, 0 or more.")
        self._kept_fits = int(value)

    @property
    def compilation_cache(self) -> str | None:
        """Folder in which compiled programs are kept for later processes; None (the start) keeps none.

        A run on data of the same shape then starts without compiling, which saves a few seconds. The folder is made; it
        belongs to one user. Where several processes share it, at worst one compiles again, with a warning. Setting it
        starts JAX and sets its ``jax_compilation_cache_dir``.
        """
        return self._compilation_cache

    @compilation_cache.setter
    def compilation_cache(self, value: str | os.PathLike[str] | None) -> None:
        import jax
        from jax.experimental.compilation_cache import compilation_cache

        if value is not None:
            if not isinstance(value, (str, os.PathLike)):
                raise TypeError(f"settings.compilation_cache = {value!r}: use the path of a folder, or None.")
            folder = Path(value).expanduser().absolute()
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise ValueError(
                    f"settings.compilation_cache = {str(value)!r}: the folder cannot be made ({error.strerror}). Choose another."
                ) from error
            if not os.access(folder, os.W_OK):
                raise ValueError(
                    f"settings.compilation_cache = {str(value)!r} cannot be written to. Choose another folder."
                )
            value = str(folder)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        jax.config.update("jax_compilation_cache_dir", value)
        compilation_cache.reset_cache()  # else a folder set after the first compilation would not be used
        self._compilation_cache = value


settings = Settings()
