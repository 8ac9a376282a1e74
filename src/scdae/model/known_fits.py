"""Fits of this process, so that one fit answers many questions: the same counts with the same settings are fitted once.

A fit is a matter of the counts, what was observed of them, batches and covariates, and the settings, and it is the same bits each
time. So what an equal fit has learned is taken over instead of being learned again. The last few are kept
(:attr:`scdae.settings.kept_fits`), without their counts. Fits of counts that are read by blocks, of several devices and with
checkpoints are trained each time.
"""

from __future__ import annotations

from collections import OrderedDict
from copy import copy
from threading import Lock
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from scdae import __version__
from scdae._log import get_logger
from scdae._settings import settings
from scdae.core.data.conditions import Conditions
from scdae.core.minibatches.devices import Devices
from scdae.core.progress.checkpoints import Checkpoints
from scdae.core.progress.fingerprint import digest
from scdae.inputs.count_types import CountBlocks, Counts
from scdae.inputs.covariates import Covariates

if TYPE_CHECKING:
    from scdae.model.dae import DAE

__all__ = ["fit_once", "keep", "known_fit"]

_SWITCHES = ("jax_default_matmul_precision",)  # of JAX, by which numbers may change
_lock = Lock()
_models: OrderedDict[str, DAE] = OrderedDict()  # by name, the one used last at the end
_names: dict[str, str] = {}  # of fits, by what they were fitted to


def fit_once(
    model: DAE,
    counts: Counts | CountBlocks,
    covariates: Covariates,
    conditions: Conditions | None,
    *,
    checkpoints: Checkpoints | None = None,
    devices: Devices | None = None,
) -> DAE:
    """Fit `model`, or let it take over what an equal fit of this process has learned.

    Parameters
    ----------
    model
        A model that is not fitted.
    counts, covariates, conditions
        What it is fitted to.
    checkpoints, devices
        As for a fit.

    Returns
    -------
    DAE
        The same model, fitted.
    """
    several = devices is not None and devices.number * devices.processes > 1
    if settings.kept_fits == 0 or checkpoints is not None or several or not isinstance(counts, Counts):
        return model._fit_counts(counts, covariates, conditions, checkpoints=checkpoints, devices=devices)
    given = _digest(model, counts, covariates, conditions)
    with _lock:
        name = _names.get(given)
        known = None if name is None else _models.get(name)
    if known is not None and name is not None:
        get_logger().info("scdae: these counts were fitted with these settings before; that fit is used.")
        model.config, model._asked, model._fitted = known.config, known._asked, known._fitted
        keep(model, name)
        return model
    model._fit_counts(counts, covariates, conditions, checkpoints=checkpoints, devices=devices)
    name = keep(model)
    with _lock:
        _names[given] = name
    return model


def keep(model: DAE, name: str | None = None) -> str:
    """Keep a fitted model for as long as few others come after it, and return its name, which follows from what it has learned."""
    if name is None:
        fitted = model.fitted_model()
        network = fitted.network
        arrays = [np.asarray(leaf) for leaf in jax.tree.leaves((network.params, network.laws, network.axes.weight))]
        name = digest([*arrays, np.asarray(fitted.var_names, dtype=str)])[:16]
    with _lock:
        _models[name] = copy(model)
        _models.move_to_end(name)
        while len(_models) > settings.kept_fits:
            _models.popitem(last=False)
        for given in [given for given, of in _names.items() if of not in _models and of != name]:
            del _names[given]
    return name


def known_fit(name: str) -> DAE | None:
    """Return the model of that name, or None if it is not kept (any more)."""
    with _lock:
        model = _models.get(name)
    return None if model is None else copy(model)


def _digest(model: DAE, counts: Counts, covariates: Covariates, conditions: Conditions | None) -> str:
    """Sum over all that decides how a fit ends."""
    matrices = [matrix for matrix in (counts.matrix, counts.unobserved) if matrix is not None]
    arrays: list[Any] = [part for matrix in matrices for part in (matrix.data, matrix.indices, matrix.indptr)]
    arrays += [] if conditions is None else [np.asarray(part) for part in conditions]
    asked = {**model.config.to_dict(), **model._asked}
    told = [__version__, asked, covariates, counts.matrix.shape, len(matrices)]
    told += [jax.default_backend(), *(jax.config.values[name] for name in _SWITCHES)]
    return digest([*arrays, np.asarray(counts.var_names, dtype=str), np.array(repr(told))])
