"""Arguments of the wrong kind: what is not an AnnData, and settings that do not exist."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from anndata import AnnData

from scdae.arguments.numbers import integer, whole_number
from scdae.core.config import Config

__all__ = ["RAW", "check_adata", "check_settings", "listed", "nearest", "spelled"]

RAW = "The counts in .raw have genes of their own: pass adata.raw.to_adata()."
_FEW = 5  # names shown before "..."
_P = ParamSpec("_P")
_R = TypeVar("_R")


def check_adata(adata: object, argument: str = "adata") -> None:
    """Raise a TypeError that says what to do unless `adata` is an AnnData.

    Parameters
    ----------
    adata
        What the user passed.
    argument
        Name of the argument, for the error.
    """
    if isinstance(adata, AnnData):
        return
    kind = f"{type(adata).__module__}.{type(adata).__qualname__}".removeprefix("builtins.")
    modalities: Any = getattr(adata, "mod", None)
    if hasattr(modalities, "keys"):
        keys = ", ".join(repr(key) for key in modalities.keys())
        hint = f"Pass one of its modalities: {argument}.mod[...] with one of {keys}."
    elif hasattr(getattr(adata, "tables", None), "keys"):
        keys = ", ".join(repr(key) for key in adata.tables.keys())  # type: ignore[attr-defined]
        hint = f"Pass one of its tables: {argument}.tables[...] with one of {keys}."
    elif isinstance(adata, str) or hasattr(adata, "__fspath__"):
        hint = "Read the file first, for example with anndata.read_h5ad."
    elif adata is None:
        hint = "Functions that write into an AnnData return None unless copy=True: pass the object that was read."
    elif hasattr(adata, "iloc"):
        hint = (
            "Wrap counts (cells in rows, genes in columns) as anndata.AnnData(counts); it keeps the names of a table."
        )
    else:
        hint = "Wrap counts (cells in rows, genes in columns) as anndata.AnnData(counts)."
    raise TypeError(f"{argument} has to be an anndata.AnnData, but is a {kind}. {hint}")


def check_settings(function: Callable[..., Any], settings: Mapping[str, Any], seed: Any = 0) -> None:
    """Raise a TypeError where `settings` of the model, the `**settings` of `function`, have a name that there is not.

    The error names the closest argument or setting, and all settings that may be given. A `seed` that is no whole number
    is a ValueError.
    """
    whole_number("seed", seed, 0, 2**32 - 1)
    own = [name for name, one in inspect.signature(function).parameters.items() if one.kind is not one.VAR_KEYWORD]
    missing = [name for name in Config.names() if name not in own]
    for name in settings:
        if name not in missing:
            hint = f" {RAW}" if name == "use_raw" else nearest(name, [*own, *missing])
            raise TypeError(
                f"{function.__name__}() has no argument {name!r}.{hint} Settings of the model: {', '.join(missing)}."
            )


def spelled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function answer an argument that it does not have with the closest that it has, and take whole doubles as integers.

    A setting of the model that is given to a function which takes none is told where it belongs. Functions that pass
    further settings on (``**settings``) look at their names themselves. An argument that is annotated as an integer may
    be a float of a whole number, which is what R's numbers are, or a NumPy scalar; other numbers are refused. An AnnData
    where none is wanted is refused before NumPy sees it, which would look into it for seconds or minutes.
    """
    parameters = inspect.signature(function).parameters
    names = [name for name in parameters if name != "self"]
    passes_on = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    order = list(parameters)
    integers = {name: kinds for name, one in parameters.items() if "int" in (kinds := _kinds(one.annotation))}
    objects = {name for name, one in parameters.items() if re.search("AnnData|DAE", str(one.annotation))} | {"self"}
    shown = function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def called(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for name in kwargs:
            if name not in names and not passes_on:
                raise TypeError(
                    f"{shown}() has no argument {name!r}.{_meant(name, names)} Arguments: {', '.join(names)}."
                )
        for name, value in (*zip(order, args, strict=False), *kwargs.items()):
            if isinstance(value, AnnData) and name not in objects:
                raise TypeError(
                    f"{name} is an AnnData, and {shown}() takes none there. Pass a part of it, such as adata.X, adata.layers[...], "
                    "adata.obs[...] or adata.var_names."
                )
        given = [
            integer(name, value, text="str" in integers[name]) if name in integers else value
            for name, value in zip(order, args, strict=False)
        ]
        for name in integers.keys() & kwargs.keys():
            kwargs[name] = integer(name, kwargs[name], text="str" in integers[name])
        return function(*given, *args[len(given) :], **kwargs)  # type: ignore[arg-type]

    return called


def _kinds(annotation: Any) -> set[str]:
    """Return the names of the types that an annotation joins."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return {part.strip() for part in text.split("|")}


def _meant(name: str, names: list[str]) -> str:
    if name in Config.names():
        return f" It is a setting of the model: scdae.DAE({name}=...)."
    return f" {RAW}" if name == "use_raw" else nearest(name, names)


def nearest(name: object, names: Iterable[object]) -> str:
    """Return a question that offers the closest of the names, with a blank before it; empty where none is close."""
    shown = {str(one).casefold(): one for one in names}
    close = difflib.get_close_matches(str(name).casefold(), list(shown), n=1)
    return f" Did you mean {shown[close[0]]!r}?" if close else ""


def listed(names: Iterable[object]) -> str:
    """Join names for a message: the first five, and dots where there are more; ``"none"`` where there are none."""
    shown = [repr(name) for name in names]
    return ", ".join(shown[:_FEW]) + (", ..." if len(shown) > _FEW else "") or "none"
