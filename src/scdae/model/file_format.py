"""What a model file has to hold: a sum over all of it, and for each field its type, shape and range.

Files of earlier versions have no sum, so the fields are looked at as well: a changed one must not give other restored
counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from numbers import Real
from typing import Any, get_args

import numpy as np

from scdae.core.config import Likelihood
from scdae.core.evaluation.heldout import read_out_law
from scdae.core.progress.fingerprint import digest

__all__ = ["check_arrays", "check_header", "check_parameters", "checksum"]

_LARGEST_LOG = 80.0  # of a dispersion or a share: beyond it, float32 has no number
_LARGEST = 1e6  # of a weight
_LOGS = ("param_log_theta", "param_log_theta_zi", "param_log_profile")


def checksum(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of settings and arrays, by name.

    Examples
    --------
    >>> checksum({"a": 1}, {"b": np.zeros(2)}) == checksum({"a": 1}, {"b": np.ones(2)})
    False
    """
    told = {name: value for name, value in header.items() if name != "checksum"}
    text = json.dumps([told, sorted(arrays)], sort_keys=True)
    return digest([np.frombuffer(text.encode(), np.uint8), *(arrays[name] for name in sorted(arrays))])


def check_header(header: Mapping[str, Any]) -> None:
    """Raise ValueError unless the settings and numbers of a model are what they have to be."""
    for name, fits, words in _HEADER:
        if name not in header:
            raise ValueError(f"{name} is missing")
        if not fits(header[name]):
            raise ValueError(f"{name} is not {words}")
    if not _is_number(header.get("gap_max_iter", 0)) or header.get("gap_max_iter", 0) % 1:
        raise ValueError("gap_max_iter is not a whole number, 0 or more")
    if header.get("largest_count") is not None and not _is_number(header["largest_count"], 1e-9):
        raise ValueError("largest_count is not a number above 0")
    lists = header["history"].items()
    for curve in (False, True):  # of the loss, which has points of its own
        if len({len(values) for name, values in lists if name.startswith("curve_") == curve}) > 1:
            raise ValueError("the lists of history differ in length")
    if header["format"] == 1:
        if header["batch_key"] is not None and not _are_levels(header.get("batch_levels")):
            raise ValueError("batch_levels is not a list of different names")
        return
    levels, scales, key = (header.get(name) for name in ("levels", "scales", "batch_key"))
    if not isinstance(levels, dict) or not all(map(_are_levels, levels.values())):
        raise ValueError("levels is not a list of different names for each column")
    if not isinstance(scales, dict) or not all(map(_is_scale, scales.values())):
        raise ValueError("scales is not a mean and a standard deviation above zero for each column")
    if not isinstance(header.get("moved"), bool):
        raise ValueError("moved is not true or false")
    if key is not None and next(iter(levels), None) != key:
        raise ValueError(f"levels does not begin with those of batch_key, {key!r}")
    if set(levels) & set(scales):
        raise ValueError("a column is in levels and in scales")


def check_arrays(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError unless the arrays have the types, shapes and ranges of one model."""
    needed = [*_SHAPES, *header.get("arrays", ())]  # files of format 1 have no list
    missing = sorted({name for name in needed if name not in arrays})
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    sizes = {"genes": arrays["genes"].size, "cells": arrays["cells"].size, "names": arrays["var_names"].size}
    for name, (kind, shape) in _SHAPES.items():
        array = arrays[name]
        _check_kind(name, array, kind)
        for length, wanted in zip(array.shape, shape, strict=False):
            sizes.setdefault(wanted, length)
        expected = tuple(sizes[part] for part in shape)
        if array.shape != expected:
            raise ValueError(f"{name} is of shape {array.shape} where {expected} is needed")
    for name, array in arrays.items():
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            raise ValueError(f"{name} holds a value that is not finite")
        if array.dtype == np.float32 and array.size and np.abs(array).max() > _LARGEST:
            raise ValueError(f"{name} holds a value beyond {_LARGEST:g}")
    if not sizes["genes"] or not sizes["cells"]:
        raise ValueError("there are no genes or no cells")
    _check_places("genes", arrays["genes"], sizes["names"])
    _check_places("cells", arrays["cells"], None)
    for name, size in _OPTIONAL.items():
        if name in arrays and arrays[name].shape != (sizes[size],):
            raise ValueError(f"{name} is of shape {arrays[name].shape} where {(sizes[size],)} is needed")
        if name in arrays:
            _check_kind(name, arrays[name], "f8")
    if "never_observed" in arrays and arrays["never_observed"].size:
        _check_kind("never_observed", arrays["never_observed"], "i8")
        _check_places("never_observed", arrays["never_observed"], sizes["names"])
    gate, profile = arrays["gate"], arrays["profile"]
    if gate.min() < -1e-3 or gate.max() > 1 + 1e-3:
        raise ValueError("gate holds a value outside of 0 to 1")
    if profile.min() < 0 or abs(profile.sum() - 1) > 0.01:
        raise ValueError("profile holds no shares that add up to 1")
    if arrays["report_gene_baseline"].min() < 0 or arrays["report_cell_baseline"].min() < 0:
        raise ValueError("a deviance of the report is below zero")
    if "axes_effects" in arrays:
        _check_kind("axes_effects", arrays["axes_effects"], "f4")
    for name in _LOGS:
        if name in arrays and arrays[name].size and np.abs(arrays[name]).max() > _LARGEST_LOG:
            raise ValueError(f"{name} holds a logarithm beyond {_LARGEST_LOG:g}")
    likelihood = header["settings"].get("likelihood", "zinb")
    if header["law"] != read_out_law(likelihood, arrays["inflated"]):
        raise ValueError(f"law is {header['law']!r}, which does not go with the settings and the genes with dropout")


def check_parameters(
    arrays: Mapping[str, np.ndarray], like: Mapping[str, Any], n_conditions: int, n_batches: int
) -> None:
    """Raise ValueError unless the parameters fit the network, and this the batches and covariates.

    Parameters
    ----------
    arrays
        All arrays of the file.
    like
        Parameters of the network that was built for them, by name.
    n_conditions
        Levels of all categorical columns that have several, and continuous columns.
    n_batches
        Batches, if there are several; else 0.
    """
    for name, value in like.items():
        array = arrays.get(f"param_{name}")
        if array is None:
            raise ValueError(f"param_{name} is missing")
        _check_kind(f"param_{name}", array, "f4")
        if array.shape != value.shape:
            raise ValueError(f"param_{name} is of shape {array.shape} where {value.shape} is needed")
    n_genes = len(arrays["genes"])
    batch_effect = arrays.get("param_batch_effect")
    if (0 if batch_effect is None else len(batch_effect)) != n_conditions:
        raise ValueError(
            f"param_batch_effect is of {0 if batch_effect is None else len(batch_effect)} levels and columns, of which there are {n_conditions}"
        )
    effects = arrays.get("axes_effects")
    if effects is not None and effects.shape != (n_conditions, n_genes):
        raise ValueError(f"axes_effects is of shape {effects.shape} where {(n_conditions, n_genes)} is needed")
    centroids = [arrays.get(f"param_{name}") for name in ("centroids", "batch_centroids", "centroid_scale")]
    if centroids[0] is None or centroids[1] is None or centroids[2] is None:
        return
    n_groups, n_axes = len(centroids[0]), arrays["axes_weight"].shape[1]
    shapes = [array.shape for array in centroids if array is not None]
    if shapes != [(n_groups, n_axes), (n_batches, n_groups, n_axes), ()]:
        raise ValueError(
            f"the centroids are of shapes {shapes}, which do not fit {n_batches} batches and {n_axes} axes"
        )
    if not centroids[2] > 0:
        raise ValueError("param_centroid_scale is not above zero")


def _check_kind(name: str, array: np.ndarray, kind: str) -> None:
    fits = array.dtype.kind == "U" if kind == "U" else array.dtype == np.dtype(kind)
    if not fits:
        raise ValueError(f"{name} is of type {array.dtype} where {'text' if kind == 'U' else np.dtype(kind)} is needed")


def _check_places(name: str, places: np.ndarray, n: int | None) -> None:
    if (np.diff(places) <= 0).any() or places[0] < 0 or (n is not None and places[-1] >= n):
        raise ValueError(f"{name} holds no rising places within what there is")


def _is_number(value: Any, least: float = 0, most: float = np.inf) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and least <= float(value) <= most and isfinite(value)


def _are_levels(value: Any) -> bool:
    is_list = isinstance(value, list) and len(value) > 0 and all(isinstance(name, str) for name in value)
    return is_list and len(set(value)) == len(value)


def _is_scale(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) == 2
        and _is_number(value[0], -np.inf)
        and _is_number(value[1], 1e-300)
    )


def _is_history(value: Any) -> bool:
    if not isinstance(value, dict) or not {"step", "loss", "heldout_loglik"} <= set(value):
        return False
    return all(isinstance(part, list) and all(isinstance(x, Real) for x in part) for part in value.values())


_HEADER: list[tuple[str, Callable[[Any], bool], str]] = [
    ("version", lambda value: isinstance(value, str), "text"),
    ("settings", lambda value: isinstance(value, dict) and "noise" in value, "settings of a model"),
    ("law", lambda value: value in get_args(Likelihood), "a distribution of counts"),
    ("batch_key", lambda value: value is None or isinstance(value, str), "the name of a column"),
    ("n_epochs", _is_number, "a number, 0 or more"),
    ("stopped_early", lambda value: isinstance(value, bool), "true or false"),
    ("held_out", lambda value: _is_number(value, 1e-9, 1 - 1e-9), "a fraction between 0 and 1"),
    ("molecules", _is_number, "a number, 0 or more"),
    ("history", _is_history, "the course of a training"),
]
_SHAPES = {
    "var_names": ("U", ("names",)),
    "genes": ("i8", ("genes",)),
    "cells": ("i8", ("cells",)),
    "gate": ("f4", ("genes",)),
    "profile": ("f8", ("genes",)),
    "inflated": ("?", ("genes",)),
    "axes_weight": ("f4", ("genes", "axes")),
    "axes_gene_mean": ("f4", ("genes",)),
    "report_gene_deviance": ("f8", ("genes",)),
    "report_gene_baseline": ("f8", ("genes",)),
    "report_cell_deviance": ("f8", ("cells",)),
    "report_cell_baseline": ("f8", ("cells",)),
    "report_expected": ("f8", ("genes",)),
}
_OPTIONAL = {  # that scdae 0.1 did not have
    "report_gene_restored": "genes",
    "report_gene_error": "genes",
    "report_gene_molecules": "genes",
    "report_cell_molecules": "cells",
}
