"""One split of the molecules, and a model fitted to its first part: what evaluation and tuning have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scdae.core.config import Config
from scdae.core.data.cells import CellData
from scdae.core.data.conditions import Conditions
from scdae.core.data.thinning import thin
from scdae.inputs.counts import Counts, read_counts
from scdae.inputs.covariates import Covariates, read_covariates
from scdae.inputs.options import DataOptions
from scdae.model import DAE
from scdae.model.known_fits import fit_once
from scdae.model.restore import query_cells

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Job", "Split", "check_fraction", "fit_split", "read_job"]


@dataclass(frozen=True)
class Job:
    """Counts that were checked, and the settings to judge on them."""

    counts: Counts
    config: Config
    layer: str | None
    covariates: Covariates
    conditions: Conditions | None


@dataclass(frozen=True)
class Split:
    """Molecules shown and set aside, over the cells and genes that have any of the former, and the fitted model."""

    model: DAE
    data: CellData
    held_out: sp.csr_matrix
    ratio: float
    cells: np.ndarray  # int64: rows of these cells
    genes: np.ndarray  # int64: columns of these genes


def read_job(
    adata: AnnData,
    model: DAE | None,
    settings: dict[str, Any],
    data: DataOptions,
    *,
    key: str | None = None,
) -> Job:
    """Read the counts, and the settings of `model`, else those given, else those of the run stored under `key`."""
    run = adata.uns.get(key) if key is not None else None
    if model is not None:
        if not isinstance(model, DAE):
            raise TypeError(f"model must be a fitted scdae.DAE, got {type(model).__name__}.")
        if settings:
            raise ValueError(
                f"{next(iter(settings))}=... belongs to the fit and cannot be set together with model=. Leave it out."
            )
        config = model.config
        data = replace(
            data,
            batch_key=data.batch_key or model.batch_key,
            covariates=model.covariates.others if data.covariates is None else data.covariates,
        )
    elif isinstance(run, Mapping) and run.get("written_by") == "scdae.pp.impute":
        data = _of_run(run, data)
        stored = {name: _plain(value) for name, value in run["settings"].items()}
        config = DAE(**{**stored, **settings}).config
    else:
        config = DAE(**settings).config
    counts = read_counts(adata, **data.counts)
    return Job(counts, config, data.layer, *read_covariates(adata, **data.columns))


def fit_split(job: Job, fraction: float, seed: int) -> Split:
    """Show a model `fraction` of the molecules, with the settings of the job."""
    shown, rest = thin(job.counts.matrix, fraction, np.random.default_rng([seed, 7]))
    if not shown.nnz or not rest.nnz:
        raise ValueError(
            f"fraction={fraction!r} of {job.counts.matrix.sum():,.0f} molecules leaves none on one side. There are too few "
            "to judge by."
        )
    model = DAE()
    model.config = job.config
    train = replace(job.counts, matrix=shown)
    fit_once(model, train, job.covariates, job.conditions)
    data, gene_map = query_cells(model.fitted_model(), train, job.conditions)
    genes = gene_map.columns
    cells = np.flatnonzero(np.diff(data.counts.indptr))
    held_out = rest[cells][:, genes].tocsr()
    held_out.sort_indices()
    return Split(model, data.take(cells), held_out, (1 - fraction) / fraction, cells, genes)


def check_fraction(fraction: float) -> None:
    """Raise ValueError unless `fraction` lies between 0 and 1, both excluded."""
    if not 0 < fraction < 1:
        raise ValueError(f"fraction={fraction!r}: use a fraction of the molecules between 0 and 1, such as 0.9.")


def _of_run(run: Mapping[str, Any], data: DataOptions) -> DataOptions:
    """Return where a stored run had its counts, mask and batches, unless `data` says otherwise."""
    source = str(run["layer"])
    layer = source if data.layer is None and source != "X" else data.layer
    masked, mask = run.get("mask"), data.mask
    if mask is None and isinstance(masked, str):
        if masked == "given":
            raise ValueError(
                "mask: the run was given an array of what was observed, which is not stored. Pass the same mask=."
            )
        mask = masked.removeprefix("layer ")
    covariates = [str(name) for name in run.get("covariates", ())] if data.covariates is None else data.covariates
    return DataOptions(
        layer,
        mask,
        data.batch_key or run.get("batch_key"),
        covariates,
        data.allow_fractional or bool(run.get("allow_fractional", False)),
        data.allow_nan or bool(run.get("allow_nan", False)),
    )


def _plain(value: Any) -> Any:
    """Return a stored setting as it was given."""
    if isinstance(value, np.ndarray):
        return tuple(value.tolist())
    return value.item() if isinstance(value, np.generic) else value
