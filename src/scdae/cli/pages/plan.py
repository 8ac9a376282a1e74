"""What a run would read, train and write, and what it would cost: all that is known before the first step.

Counts are read and checked as they are for the run itself, so that what would stop it is found now. Time and memory are
estimates (:mod:`scdae.cli.pages.costs`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from scdae.arguments.objects import check_adata
from scdae.cli.pages.costs import layer_bytes, peak_bytes, seconds_of_restoring, seconds_of_training
from scdae.core.config import Config, Effort, Likelihood
from scdae.core.runtime.memory import memory_limits
from scdae.core.training.schedule import batch_size_for, n_steps_for
from scdae.core.training.sizes import MEMBERS, most_latent
from scdae.files.room import check_room
from scdae.files.sizes import bytes_of
from scdae.files.targets import writes
from scdae.inputs.counts import Counts, open_counts
from scdae.inputs.covariates import read_covariates
from scdae.inputs.options import DataOptions
from scdae.inputs.validate import describe_source
from scdae.matrices.chunk_sizes import choose_lazy
from scdae.model.output_options import OutputOptions
from scdae.outputs.names import Names, check_corrected

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from anndata import AnnData

__all__ = [
    "Plan",
    "check_result_room",
    "plan_impute",
    "plan_training",
]

_GIB = 2**30
_PARTS = ("data", "indices", "indptr")


@dataclass
class Plan:
    """What would be done, in plain values; estimates are called so."""

    read: dict[str, Any]
    train: dict[str, Any]
    write: dict[str, Any]
    cost: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def plan_training(
    adata: AnnData,
    config: Config,
    *,
    layer: str | None = None,
    mask: Any = None,
    batch_key: str | None = None,
    covariates: Any = None,
    allow_fractional: bool = False,
    allow_nan: bool = False,
) -> Plan:
    """Check the data as a fit does, and say what it would do.

    Parameters
    ----------
    adata
        The data; not changed.
    config
        Settings of the fit.
    layer, mask, batch_key, covariates, allow_fractional, allow_nan
        As for :meth:`scdae.DAE.fit`.

    Raises
    ------
    ValueError, TypeError
        Those of the fit.
    """
    check_adata(adata)
    data = DataOptions(layer, mask, batch_key, covariates, allow_fractional, allow_nan)
    counts = open_counts(adata, for_fit=True, seed=config.seed, **data.counts)
    columns, _ = read_covariates(adata, **data.columns)
    held = isinstance(counts, Counts)
    if isinstance(counts, Counts):
        lengths, totals = np.diff(counts.matrix.indptr), np.asarray(counts.matrix.sum(axis=0)).ravel()
        hidden = 0 if counts.unobserved is None else int(counts.unobserved.nnz)
    else:
        blocks = counts.blocks
        lengths, totals = blocks.lengths, blocks.totals
        hidden = 0 if blocks.hidden is None else int(blocks.hidden.sum())
    n_stored, n_obs, n_vars = int(lengths.sum()), int(np.count_nonzero(lengths)), int(np.count_nonzero(totals))
    batch_size = batch_size_for(config, n_obs, n_vars)
    n_steps = n_steps_for(config, n_obs, batch_size)
    device = _device()
    matrix = adata.X if layer is None else adata.layers[layer]
    own = sum(getattr(getattr(matrix, part, None), "nbytes", 0) for part in _PARTS)
    together = MEMBERS[config.effort] if not columns.n_levels + len(columns.scales) else 1
    seconds = together * seconds_of_training(n_steps, batch_size, n_vars, n_stored)
    peak = peak_bytes(n_stored, own, n_obs=adata.n_obs, n_vars=adata.n_vars) / _GIB
    limits = memory_limits()
    return Plan(
        read={
            "counts": describe_source(layer),
            "n_obs": adata.n_obs,
            "n_vars": adata.n_vars,
            "stored_entries": n_stored,
            "unobserved_entries": hidden,
            "held_in_memory": held,
        },
        train={
            "n_obs": n_obs,
            "n_vars": n_vars,
            "likelihood": config.likelihood,
            "effort": config.effort,
            "networks": together,
            "batch_size": batch_size,
            "most_steps": n_steps,
            "most_epochs": round(n_steps * batch_size / n_obs, 1),
            "batches": columns.batch_levels if columns.batches else [],
            "covariates": list(columns.others),
            "device": device,
        },
        write={},
        cost={
            "estimated_seconds": round(seconds, 1) if device.startswith("cpu") else None,
            "estimated_peak_gib": round(peak, 2),
            "free_gib": round(limits[0].free / _GIB, 2) if limits else None,
            "free_by": limits[0].source if limits else None,
        },
    )


def plan_impute(
    adata: AnnData,
    *,
    layer: str | None = None,
    transform_batch: str | None = None,
    key_added: str = "scdae",
    output: str | Sequence[str] = "mean",
    depth: Any = None,
    quantiles: Any = (),
    lazy: bool | None = None,
    threshold: float | None = None,
    genes: Sequence[str] | None = None,
    dtype: str = "float32",
    alone: bool = False,
    overwrite: bool = False,
    likelihood: Likelihood = "zinb",
    max_epochs: int | None = None,
    seed: int = 0,
    effort: Effort = "default",
    **data: Any,
) -> Plan:
    """Check the data and the names as :func:`scdae.pp.impute` does, and say what it would do.

    Parameters
    ----------
    adata
        The data; not changed.
    genes, dtype, alone
        Genes that would be written, as what, and whether without the data.
    **data
        `mask`, `batch_key`, `covariates`, `allow_fractional` and `allow_nan`, as there; so are the others.

    Raises
    ------
    ValueError, TypeError
        Those of the call.
    """
    check_adata(adata)
    wanted = OutputOptions.checked(adata, output, depth, quantiles, lazy, threshold)
    names = Names.of(key_added, transform_batch, wanted.outputs, wanted.quantiles)
    plan = plan_training(
        adata, Config(likelihood, max_epochs=max_epochs, seed=seed, effort=effort), layer=layer, **data
    )
    names.check_free(adata, layer, overwrite=overwrite)
    if transform_batch is not None:
        known = read_covariates(adata, data.get("batch_key"), data.get("covariates"))[0]
        known.batch_weights(transform_batch)
        check_corrected(transform_batch, known.batch_levels)
    n_genes = adata.n_vars if genes is None else len(genes)
    size = wanted.n_layers * adata.n_obs * n_genes * np.dtype(dtype).itemsize
    lazily = choose_lazy(lazy if threshold is None else bool(lazy), size, quiet=True)
    plan.write = {
        "layers": names.layers,
        "n_quantiles": len(wanted.quantiles),
        "n_vars": n_genes,
        "form": "dense" if threshold is None else "sparse",
        "dtype": dtype,
        "bytes": size if threshold is None else None,  # of a sparse layer it is not known before it is there
        "cell_by_cell": lazily,
        "latent_bytes": 4 * adata.n_obs * most_latent(Config(), adata.n_obs),
        "with_the_data": not alone,
    }
    cost = plan.cost
    if cost["estimated_seconds"] is not None:
        values = adata.n_obs * plan.train["n_vars"] * len(wanted.outputs)  # how long quantiles take was not measured
        cost["estimated_seconds"] = round(cost["estimated_seconds"] + seconds_of_restoring(values), 1)
    if not lazily:
        matrix = adata.X if layer is None else adata.layers[layer]
        own = sum(getattr(getattr(matrix, part, None), "nbytes", 0) for part in _PARTS)
        held = layer_bytes(wanted.n_layers * adata.n_obs * n_genes, threshold)
        peak = peak_bytes(plan.read["stored_entries"], own, held=held, n_obs=adata.n_obs, n_vars=adata.n_vars)
        cost["estimated_peak_gib"] = round(peak / _GIB, 2)
    return plan


def check_result_room(
    target: str | PathLike[str],
    adata: AnnData,
    genes: Sequence[str] | None,
    dtype: str,
    n_layers: int,
    threshold: float | None,
    *,
    alone: bool,
) -> None:
    """Find out before training whether OUTPUT will fit on its disk: what is known of it by then.

    Sparse layers are counted as nothing, and those of a zarr store, which are compressed, as a quarter.

    Raises
    ------
    WriteError
        They will not fit.
    """
    n_genes = adata.n_vars if genes is None else len(genes)
    size = 0 if threshold is not None else n_layers * adata.n_obs * n_genes * np.dtype(dtype).itemsize
    size += 4 * adata.n_obs * most_latent(Config(), adata.n_obs) + (0 if alone else bytes_of(adata))
    with writes(target):
        check_room(target, size / 4 if str(target).endswith(".zarr") else size)


def _device() -> str:
    """What JAX would compute on."""
    device = jax.devices()[0]
    return f"{device.platform}" if device.platform == "cpu" else f"{device.platform} ({device.device_kind})"
