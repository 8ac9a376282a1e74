"""A fitted model in one file: named arrays (npz) and one JSON text with a format version. Nothing is pickled."""

from __future__ import annotations

import json
import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from scdae import __version__
from scdae.core.config import Config
from scdae.core.distributions.laws import laws_from_arrays, laws_to_arrays
from scdae.core.evaluation.report import Report
from scdae.core.network.autoencoder import Autoencoder, with_values
from scdae.core.network.batch_alignment import Alignment
from scdae.core.network.encoder_input import Axes
from scdae.core.network.fitted import Fitted
from scdae.core.network.latent_prior import LatentPrior
from scdae.core.runtime.platforms import check_platform
from scdae.core.training.fit import Outcome
from scdae.files.replacing import in_place
from scdae.files.targets import writes
from scdae.inputs.covariates import Covariates
from scdae.model.file_format import check_arrays, check_header, check_parameters, checksum
from scdae.model.fitted_model import FittedModel

__all__ = ["load_model", "save_model"]

FORMAT = 3  # 2: covariates, and batches whose effects start from their means; 3: distributions of several components
_KIND = "scdae model"
_START = b"PK"  # of an archive
# What reading a damaged archive or header may raise
_UNREADABLE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_REPORT = (
    "gene_deviance",
    "gene_restored",
    "gene_baseline",
    "gene_error",
    "gene_molecules",
    "cell_deviance",
    "cell_baseline",
    "cell_molecules",
    "expected",
)


def save_model(model: FittedModel, path: str | PathLike[str], *, overwrite: bool = True) -> None:
    """Write `model` to `path`, next to it first and then in its place; a link is followed.

    Parameters
    ----------
    model
        A fitted model.
    path
        File. ``~`` is the home folder.
    overwrite
        Whether a file that is there by then is replaced.

    Raises
    ------
    FileNotFoundError, FileExistsError, WriteError
        The folder is not there, `path` is a folder or a file that is no model, or the file could not be written.
    """
    target = _path(path)
    folder = Path(os.path.realpath(target)).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"path={str(path)!r}: the folder {str(folder)!r} does not exist. Make it first.")
    if target.is_dir():
        raise FileExistsError(f"path={str(path)!r} is a folder. Add the name of a file, such as model.scdae.")
    if _is_another_kind(target):
        raise FileExistsError(
            f"path={str(path)!r} is a file, but no model, so it is not replaced. Choose another name."
        )
    outcome = model.outcome
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
        "efficiency": [outcome.report.efficiency, outcome.report.efficiency_error],
        "history": outcome.history,
        "gap_max_iter": fitted.gaps.max_iter,
        "latent_depth": None if fitted.prior is None else fitted.prior.depth,
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
    arrays |= laws_to_arrays(fitted.laws)
    if fitted.prior is not None:
        arrays |= {"latent_mean": fitted.prior.mean, "latent_precision": fitted.prior.precision}
    if fitted.axes.effects is not None:
        arrays["axes_effects"] = np.asarray(fitted.axes.effects)
    if len(model.never_observed):
        arrays["never_observed"] = model.never_observed
    report = {f"report_{name}": getattr(outcome.report, name) for name in _REPORT}
    arrays |= {
        name: array for name, array in report.items() if np.isfinite(array).all()
    }  # 0.1 did not know all of them
    arrays |= {f"param_{name}": np.asarray(value) for name, value in nnx.to_pure_dict(fitted.params).items()}
    header["arrays"] = sorted(arrays)
    header = json.loads(json.dumps(header))  # as it will be read
    header["checksum"] = checksum(header, arrays)
    arrays["header"] = np.array(json.dumps(header))
    with writes(target), in_place(target, overwrite=overwrite) as (complete, shield), shield.open():
        with complete.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)


def _is_another_kind(target: Path) -> bool:
    """Whether there is a file that neither holds what models do nor has their name."""
    if not target.is_file() or target.suffix == ".scdae" or not os.access(target, os.R_OK):
        return False
    with target.open("rb") as file:
        return file.read(len(_START)) not in (b"", _START)


def load_model(path: str | PathLike[str]) -> FittedModel:
    """Read a model that :func:`save_model` wrote.

    Raises
    ------
    FileNotFoundError, PermissionError
        There is no such file, or it may not be read.
    ValueError
        It is no model, damaged or changed; the message says what is wrong with it.
    """
    check_platform()
    file = _path(path)
    if file.is_dir():
        raise FileNotFoundError(
            f"path={str(path)!r}: there is no such file, but a folder. Pass the file that model.save wrote."
        )
    if not file.is_file():
        if file.exists():
            raise ValueError(
                f"path={str(path)!r} is a pipe or a device; a model is read from a file. Save it to one first."
            )
        raise FileNotFoundError(f"path={str(path)!r}: there is no such file.")
    try:
        header, arrays = _read(file)
    except PermissionError as error:
        raise PermissionError(f"path={str(path)!r} cannot be read ({error.strerror}).") from error
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"path={str(path)!r} is no scdae model, or the file is damaged ({reason}).") from error
    if not isinstance(header, dict) or header.get("kind") != _KIND:
        raise ValueError(f"path={str(path)!r} is no scdae model.")
    number = header.get("format")
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"path={str(path)!r} is damaged: its format is {number!r}.")
    if number > FORMAT:
        raise ValueError(
            f"path={str(path)!r} was written by scdae {header.get('version')} in format {number}; this version "
            f"reads formats up to {FORMAT}. Update scdae."
        )
    try:
        check_header(header)
        check_arrays(header, arrays)
        if header.get("checksum", "") not in ("", checksum(header, arrays)):  # files of earlier versions have none
            raise ValueError("its sum is wrong, so it was changed after it was written")
        return _rebuild(header, arrays)
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"path={str(path)!r} is damaged: {reason}. Use another copy, or fit the model again."
        ) from error


def _path(path: str | PathLike[str]) -> Path:
    if not isinstance(path, (str, PathLike)):
        raise TypeError(f"path={path!r}: use the name of a file.")
    if not str(path):
        raise ValueError("path='': use the name of a file, such as model.scdae.")
    return Path(path).expanduser()


def _read(path: Path) -> tuple[Any, dict[str, np.ndarray]]:
    if not zipfile.is_zipfile(path):
        raise ValueError("not an archive of arrays")
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return json.loads(str(arrays.pop("header"))), arrays


def _rebuild(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> FittedModel:
    settings = dict(header["settings"])
    settings["noise"] = tuple(settings["noise"])
    config = Config(**settings)
    axes = Axes(arrays["axes_weight"], arrays["axes_gene_mean"], arrays.get("axes_effects"))
    values = {name.removeprefix("param_"): value for name, value in arrays.items() if name.startswith("param_")}
    if "batch_effect" in values and header["format"] == 1:
        values["batch_start"] = np.zeros_like(values["batch_effect"])
    width, depth = config.n_hidden or 0, config.n_latent or 0
    for name, shape in (("hidden_kernel", (axes.weight.shape[1], width)), ("latent_kernel", (width, depth))):
        if name not in values or values[name].shape != shape:  # before so large a network is made
            raise ValueError(f"param_{name} is missing, or not of shape {shape} as the settings say")
    network = Autoencoder(
        arrays["profile"],
        n_inputs=axes.weight.shape[1],
        n_hidden=width,
        n_latent=depth,
        effects=values.get("batch_start"),
        alignment=Alignment.of_arrays(values),
        with_turns="batch_turn" in values,
    )
    graph, params = nnx.split(network, nnx.Param)
    covariates = _covariates(header)
    conditions = covariates.n_levels + len(covariates.scales) + covariates.moved
    check_parameters(
        {**arrays, **{f"param_{name}": value for name, value in values.items()}},
        nnx.to_pure_dict(params),
        conditions,
        len(covariates.batch_levels) if covariates.batches else 0,
    )
    fitted = Fitted(
        likelihood=header["law"],
        axes=axes,
        graph=graph,
        params=with_values(params, values),
        profile=arrays["profile"],
        inflated=arrays["inflated"],
        gaps=config.gaps._replace(max_iter=header.get("gap_max_iter", config.gaps.max_iter)),
        laws=laws_from_arrays(arrays),
        prior=_prior(header, arrays, depth),
        largest=np.inf if header.get("largest_count") is None else float(header["largest_count"]),
    )
    outcome = Outcome(
        fitted=fitted,
        genes=arrays["genes"],
        cells=arrays["cells"],
        gate=arrays["gate"],
        report=_report(header, arrays),
        history=header["history"],
        n_epochs=header["n_epochs"],
        stopped_early=header["stopped_early"],
        held_out=header["held_out"],
    )
    never_observed = arrays.get("never_observed", np.zeros(0, np.int64))  # earlier files do not say
    return FittedModel(config, outcome, arrays["var_names"], covariates, never_observed)


def _prior(header: dict[str, Any], arrays: dict[str, np.ndarray], n_latent: int) -> LatentPrior | None:
    """Where cells lie in the latent space; earlier files do not say."""
    if "latent_mean" not in arrays:
        return None
    mean, precision, depth = arrays["latent_mean"], arrays["latent_precision"], float(header["latent_depth"])
    if mean.shape != (n_latent,) or precision.shape != (n_latent, n_latent) or not 0 < depth < np.inf:
        raise ValueError("latent_mean, latent_precision and latent_depth do not go with the network")
    if mean.dtype != np.float64 or precision.dtype != np.float64 or np.linalg.eigvalsh(precision).min() <= 0:
        raise ValueError("latent_precision is no inverse of a covariance")
    return LatentPrior(mean, precision, depth)


def _report(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Report:
    """The report; of files of scdae 0.1, which had other numbers, what can be known."""
    values = {name: arrays[f"report_{name}"] for name in _REPORT if f"report_{name}" in arrays}
    n_genes, n_cells = len(arrays["genes"]), len(arrays["cells"])
    values = {
        "gene_restored": values["gene_deviance"],
        "gene_error": np.full(n_genes, np.nan),
        "gene_molecules": np.full(n_genes, np.nan),
        "cell_molecules": np.full(n_cells, np.nan),
    } | values
    efficiency = [np.nan if value is None else float(value) for value in header.get("efficiency", (1.0, 0.0))]
    return Report(**values, molecules=header["molecules"], efficiency=efficiency[0], efficiency_error=efficiency[1])


def _covariates(header: dict[str, Any]) -> Covariates:
    key = header["batch_key"]
    if header["format"] == 1:
        return Covariates(key, {} if key is None else {key: header["batch_levels"]})
    scales = {name: (mean, sd) for name, (mean, sd) in header["scales"].items()}
    ranges = {name: (low, high) for name, (low, high) in header.get("ranges", {}).items()}  # earlier files have none
    return Covariates(key, header["levels"], scales, header["moved"], ranges)
