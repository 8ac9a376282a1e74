"""A fitted model in one file: named arrays (npz) and one JSON text with a format version. Nothing is pickled."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flax import nnx

from scdae.core.alignment import Alignment
from scdae.core.axes import Axes
from scdae.core.fitted import Fitted
from scdae.core.fitting import Outcome
from scdae.core.heldout import Report
from scdae.core.network import Autoencoder, with_values
from scdae.covariates import Covariates

if TYPE_CHECKING:
    from scdae.model import DAE

__all__ = ["load_model", "save_model"]

FORMAT = 2  # 2: covariates, and batches whose effects start from their means
_KIND = "scdae model"
_REPORT = ("gene_deviance", "gene_baseline", "cell_deviance", "cell_baseline", "expected")


def save_model(model: DAE, path: str | PathLike[str]) -> None:
    """Write `model` to `path`, next to it first and then in its place."""
    from scdae import __version__

    outcome = model.fitted_outcome()
    fitted = outcome.fitted
    header = {
        "kind": _KIND,
        "format": FORMAT,
        "version": __version__,
        "settings": model.config.to_dict(),
        "law": fitted.likelihood,
        "batch_key": model.batch_key,
        "levels": model.covariates.levels,
        "scales": model.covariates.scales,
        "ranges": model.covariates.ranges,
        "moved": model.covariates.moved,
        "n_epochs": outcome.n_epochs,
        "stopped_early": outcome.stopped_early,
        "held_out": outcome.held_out,
        "molecules": outcome.report.molecules,
        "history": outcome.history,
        "gap_max_iter": fitted.gaps.max_iter,
        "largest_count": None if np.isinf(fitted.largest) else fitted.largest,
    }
    arrays: dict[str, np.ndarray] = {
        "var_names": model.var_names,
        "genes": outcome.genes,
        "cells": outcome.cells,
        "gate": outcome.gate,
        "profile": fitted.profile,
        "inflated": fitted.inflated,
        "axes_weight": np.asarray(fitted.axes.weight),
        "axes_gene_mean": np.asarray(fitted.axes.gene_mean),
    }
    if fitted.axes.effects is not None:
        arrays["axes_effects"] = np.asarray(fitted.axes.effects)
    if len(model.never_observed):
        arrays["never_observed"] = model.never_observed
    arrays |= {f"report_{name}": getattr(outcome.report, name) for name in _REPORT}
    arrays |= {f"param_{name}": np.asarray(value) for name, value in nnx.to_pure_dict(fitted.params).items()}
    header["arrays"] = sorted(arrays)
    arrays["header"] = np.array(json.dumps(header))
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"path={str(path)!r}: the folder {str(target.parent)!r} does not exist. Make it first.")
    scratch = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with scratch.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)


def load_model(path: str | PathLike[str]) -> DAE:
    """Read a model that :func:`save_model` wrote."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"path={str(path)!r}: there is no such file.")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("not an archive of arrays")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop("header")))
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError, NotImplementedError, zlib.error) as error:
        raise ValueError(f"path={str(path)!r} is no scdae model, or the file is damaged ({error}).") from error
    if not isinstance(header, dict) or header.get("kind") != _KIND:
        raise ValueError(f"path={str(path)!r} is no scdae model.")
    if header["format"] > FORMAT:
        raise ValueError(
            f"path={str(path)!r} was written by scdae {header['version']} in format {header['format']}; this version "
            f"reads formats up to {FORMAT}. Update scdae."
        )
    try:
        return _rebuild(header, arrays)
    except KeyError as error:
        raise ValueError(f"path={str(path)!r} is damaged: {error} is missing.") from error


def _rebuild(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> DAE:
    from scdae.model import DAE

    for name in header.get("arrays", ()):  # files of format 1 have no list
        if name not in arrays:
            raise KeyError(name)
    settings = dict(header["settings"])
    settings["noise"] = tuple(settings["noise"])
    model = DAE(**settings)
    axes = Axes(arrays["axes_weight"], arrays["axes_gene_mean"], arrays.get("axes_effects"))
    values = {name.removeprefix("param_"): value for name, value in arrays.items() if name.startswith("param_")}
    if "batch_effect" in values and header["format"] == 1:
        values["batch_start"] = np.zeros_like(values["batch_effect"])
    network = Autoencoder(
        arrays["profile"],
        n_inputs=axes.weight.shape[1],
        n_hidden=model.config.n_hidden,
        n_latent=model.config.n_latent,
        effects=values.get("batch_start"),
        alignment=Alignment.of_arrays(values),
        with_turns="batch_turn" in values,
    )
    graph, params = nnx.split(network, nnx.Param)
    for name in nnx.to_pure_dict(params):
        if name not in values:
            raise KeyError(f"param_{name}")
    fitted = Fitted(
        likelihood=header["law"],
        axes=axes,
        graph=graph,
        params=with_values(params, values),
        profile=arrays["profile"],
        inflated=arrays["inflated"],
        gaps=model.config.gaps._replace(max_iter=header.get("gap_max_iter", model.config.gaps.max_iter)),
        largest=np.inf if header.get("largest_count") is None else float(header["largest_count"]),
    )
    model.outcome = Outcome(
        fitted=fitted,
        genes=arrays["genes"],
        cells=arrays["cells"],
        gate=arrays["gate"],
        report=Report(**{name: arrays[f"report_{name}"] for name in _REPORT}, molecules=header["molecules"]),
        history=header["history"],
        n_epochs=header["n_epochs"],
        stopped_early=header["stopped_early"],
        held_out=header["held_out"],
    )
    model.var_names = arrays["var_names"]
    model.never_observed = arrays.get("never_observed", model.never_observed)  # earlier files do not say
    model.covariates = _covariates(header)
    return model


def _covariates(header: dict[str, Any]) -> Covariates:
    key = header["batch_key"]
    if header["format"] == 1:
        return Covariates(key, {} if key is None else {key: header["batch_levels"]})
    scales = {name: (mean, sd) for name, (mean, sd) in header["scales"].items()}
    ranges = {name: (low, high) for name, (low, high) in header.get("ranges", {}).items()}  # earlier files have none
    return Covariates(key, header["levels"], scales, header["moved"], ranges)
