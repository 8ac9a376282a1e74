"""What a training run is made of, so that one is not taken for another."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
import scipy.sparse as sp

from scdae.core.config import Config
from scdae.core.data.cells import CellData
from scdae.core.data.chunks import Blocks
from scdae.core.network.fitted import Fitted

__all__ = ["digest", "differences", "fingerprint"]

_PACKAGES = ("scdae", "jax", "flax", "optax", "numpy", "scipy")  # others would end with other bits


def fingerprint(
    config: Config,
    data: CellData,
    held_out: sp.csr_matrix,
    blocks: Blocks | None,
    reference: tuple[Fitted, np.ndarray] | None,
    **numbers: int,
) -> dict[str, Any]:
    """Return all that decides how a run ends, as plain values: numbers, names and SHA-256 sums."""
    known = None if blocks is None else (blocks.rows, blocks.lengths, blocks.hidden, blocks.totals)
    old = None if reference is None else (jax.tree.leaves(reference[0].params), reference[1])
    return {
        **config.to_dict(),
        "number of cells": data.n_obs if blocks is None else blocks.n_obs,
        "number of genes": data.n_vars,
        **numbers,
        "counts": digest(_arrays((data.counts, held_out, known))),
        "mask": digest(_arrays((data.unobserved,))),
        "batches and covariates": digest(_arrays(tuple(data.conditions))),
        "reference model": digest(_arrays(old)),
        **{f"version of {name}": version(name) for name in _PACKAGES},
    }


def digest(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 of values, shapes and types."""
    sha = sha256()
    for array in arrays:
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data if array.size else b"")
    return sha.hexdigest()


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what differs, with the two values where these say something."""
    names = []
    for name in [*one, *(name for name in other if name not in one)]:
        values = one.get(name), other.get(name)
        if values[0] != values[1]:
            sums = any(isinstance(value, str) and len(value) == 64 for value in values)
            names.append(name if sums else f"{name} ({values[0]} there, {values[1]} here)")
    return names


def _arrays(parts: Any) -> list[np.ndarray]:
    """Arrays in nested tuples, sparse matrices and None."""
    if parts is None:
        return []
    if sp.issparse(parts):
        return [np.asarray(parts.shape), parts.data, parts.indices, parts.indptr]
    if isinstance(parts, (tuple, list)):
        return [array for part in parts for array in _arrays(part)]
    return [np.asarray(parts)]
