"""Functions that a module does not have: where they are, or what they are called."""

from __future__ import annotations

import difflib
from importlib import import_module

from scdae.arguments.objects import nearest

__all__ = ["unknown_function"]

_ALIKE = 0.75  # of names in another module, from which on one is meant
_MODULES = ("pp", "tl", "pl", "get", "datasets", "metrics")


def unknown_function(module: str, name: str) -> AttributeError:
    """Return the error for a function that a module of the package does not have, with the closest that there is.

    Parameters
    ----------
    module
        Name of the module, ``"scdae"`` or one below it.
    name
        What was asked for.

    Examples
    --------
    >>> unknown_function("scdae", "imput").args[0]
    "module 'scdae' has no attribute 'imput'. Did you mean 'scdae.pp.impute'?"
    """
    text = f"module {module!r} has no attribute {name!r}."
    if name.startswith("_"):  # asked for by tools that look whether there is such a thing
        return AttributeError(text)
    places = {f"scdae.{part}.{one}": one for part in _MODULES for one in import_module(f"scdae.{part}").__all__}
    own = {place: one for place, one in places.items() if place.startswith(f"{module}.")}
    for known in ({place: one for place, one in places.items() if one == name}, own, places):
        close = nearest(name, known.values())
        for place, one in known.items():
            alike = place == f"{module}.{one}" or difflib.SequenceMatcher(None, name, one).ratio() > _ALIKE
            if alike and close == f" Did you mean {one!r}?":
                return AttributeError(f"{text} Did you mean {place!r}?")
    return AttributeError(f"{text} It has {', '.join(import_module(module).__all__)}.")
