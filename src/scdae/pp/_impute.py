"""Preprocessing: restore counts, split them into two independent halves, and join data sets of different genes."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae._log import get_logger
from scdae.arguments.names import check_name
from scdae.arguments.objects import check_adata, check_settings
from scdae.core.runtime.transfers import transfers
from scdae.inputs.counts import CountBlocks, Counts, open_counts
from scdae.inputs.covariates import level_name, read_covariates
from scdae.io.on_disk import join_files
from scdae.matrices.annotation import copied
from scdae.matrices.features import keep_genes
from scdae.outputs.names import check_corrected, check_names, corrected_key, quantile_layers
from scdae.outputs.slots import writing_to
from scdae.pp._align import align
from scdae.sequences.kmers import kmers, read_fasta

if TYPE_CHECKING:
    from anndata import AnnData

    from scdae.core.evaluation.report import Report
    from scdae.model import DAE
    from scdae.model.fitted_model import FittedModel

__all__ = ["align", "impute", "join_files", "keep_genes", "kmers", "read_fasta"]


@transfers
def impute(
    adata: AnnData,
    *,
    layer: str | None = None,
    mask: Any = None,
    batch_key: str | None = None,
    covariates: str | Sequence[str] | None = None,
    transform_batch: str | None = None,
    key_added: str = "scdae",
    likelihood: str = "zinb",
    output: str = "mean",
    depth: float | np.ndarray | None = None,
    quantiles: float | Sequence[float] = (),
    lazy: bool | None = None,
    threshold: float | None = None,
    max_epochs: int | None = None,
    model: DAE | None = None,
    seed: int = 0,
    allow_fractional: bool = False,
    allow_nan: bool = False,
    overwrite: bool = False,
    copy: bool = False,
    checkpoint_dir: str | PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    devices: int | str | None = None,
    **settings: Any,
) -> AnnData | None:
    """Restore the counts of every cell and gene.

    A denoising autoencoder learns, from molecules set aside, what a cell's expression is; each entry's own count is then
    weighed against that. `X`, `raw` and the layers that are there stay as they are.

    Parameters
    ----------
    adata
        Raw counts, cells in rows: dense, sparse, a view, backed or dask.
    layer
        Layer with the counts; None for `X`.
    mask
        What was observed: boolean layer name, array, sparse matrix or DataFrame (n_obs, n_vars), True = observed; a DataFrame
        is taken by its names. Other entries are left out of training and filled by self-consistency: with what the network makes of the completed profile.
        ``uns[key_added]["missing"]`` says how many there were, how many still moved at the end, after how many
        iterations, and by what factor the changes shrank from one to the next. Genes that no cell observed, and cells of
        which no gene was observed, come back as NaN, and are counted there, too.
    batch_key
        Column of `obs` with the batch. What a batch does to the genes is learnt, the latent space is common to all
        batches, and each cell's output is that of its own batch.
    covariates
        Further columns of `obs` that act on expression: text, booleans and categories are categorical, numbers
        continuous.
    transform_batch
        A batch, or ``"average"``: all cells come back as if they had been measured in that batch, at their own depth, so
        that the layer is corrected for batches. Everything written then has ``"_as_"`` and this name behind `key_added`:
        ``layers["scdae_as_average"]``. Leave it out where the batch is biology that has to stay.
    key_added
        Name of the output. A second call with the same name replaces the output of the first.
    likelihood
        ``"zinb"``: negative binomial, with dropout for the genes in which it earns its place on held-out molecules;
        ``"nb"``: without; ``"poisson"``.
    output
        What the layer holds: ``"mean"``, expected counts at the cell's own depth; ``"prior"``, the same without the
        cell's own count of the gene (the full smoothing); ``"rate"``, share of the cell's expression; ``"sd"``,
        standard deviation of the expected count; ``"log1p"``, expected log1p of counts per 10,000, as if the cell were
        measured anew (less than the logarithm of the mean, since counts vary).
    depth
        Molecules of that new measurement, for ``output="log1p"``: a number, or one for each cell; a Series is
        taken by its names. None: as many as the cell has.
    quantiles
        Probabilities whose quantiles of the expected count become further layers: ``(0.05, 0.95)`` writes
        ``layers[key_added + "_q05"]`` and ``layers[key_added + "_q95"]``, the ends of the interval that holds the
        expected count with probability 0.9, given the model.
    lazy
        Whether layers are dask arrays, whose cells are read and restored when they are looked at, written or computed. None:
        where they would take more than half of the free memory, and a warning says how much that is.
    threshold
        Leave out values below it, such as 0.01 expected counts: layers are then sparse. None for all.
    max_epochs
        Passes over the cells; None chooses. Training stops earlier when held-out molecules say so.
    model
        A fitted :class:`scdae.DAE` to use in place of training one; the settings of the fit may then not be given. Genes that
        it names and never counted come back as they were counted; ``uns[key_added]["genes_as_counted"]`` names those that
        have counts here.
    seed
        Seed of everything random.
    allow_fractional
        Admit counts that are not whole numbers (expected counts of Salmon or alevin, ambient-corrected counts).
    allow_nan
        Take NaN for entries that were not observed.
    overwrite
        Replace a layer, obsm, column or uns entry of the output's name that this function did not write.
    copy
        Work on a copy and return it.
    checkpoint_dir, checkpoint_every
        Where and how often it is kept how far training is, as in :meth:`scdae.DAE.fit`: a call that was killed goes on from
        there when it is made again.
    devices
        Devices that share the cells of each step of the training, as in :meth:`scdae.DAE.fit`.
    **settings
        Further settings of :class:`scdae.DAE`: `effort` (``"fast"``, ``"default"`` or ``"best"``), `n_latent`, `noise`, `corruption`,
        `weight_decay` and others.

    Returns
    -------
    anndata.AnnData or None
        The copy if `copy`, else None. Written are ``layers[key_added]`` (float32, n_obs x n_vars; NumPy array, SciPy CSR
        matrix with `threshold`, or dask array if lazy) and those of `quantiles`, ``obsm["X_" + key_added]`` (latent representation), ``var[key_added + ...]``: ``_dispersion`` (1 / theta),
        ``_dropout`` (mean probability), ``_zero_inflated`` (whether the gene rather has dropout than not), ``_zero_inflated_probability``
        (how probable that is), ``_gate`` (how much of the
        network's departure from the gene's mean was kept, 0 to 1), ``_gain`` (by how much held-out molecules are likelier by what
        the cell's other genes say than by the gene's average, in nats per molecule; NaN where there are none) and ``_helped``
        (whether that is beyond chance); ``obs[key_added + "_gain"]``, the same for each cell; and ``uns[key_added]`` with settings,
        history, report and the unit of the layer.

    Raises
    ------
    ValueError, TypeError
        The data are no counts or an argument does not fit. Nothing was trained or written.

    Notes
    -----
    The output is for looking, gene-gene views and embedding. Test for differential expression on the raw counts:
    restored values borrow from other cells, and tests on them count the same evidence twice.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
    >>> scdae.pp.impute(adata, max_epochs=2)
    >>> adata.layers["scdae"].shape
    (80, 50)
    """
    check_adata(adata)
    check_settings(impute, settings)
    from scdae.core.minibatches.devices import devices_for
    from scdae.core.prediction.missing import Gaps
    from scdae.core.training.checkpoints import open_checkpoints
    from scdae.inputs.silent import n_never_observed
    from scdae.matrices.chunk_sizes import choose_lazy
    from scdae.model import DAE
    from scdae.model.lazy import joined, lazy_layer
    from scdae.model.options import check_depth, check_form, check_output, check_quantiles, log_layer_size
    from scdae.model.restore import counted_silent_names, read_latent, read_query

    check_output(output)
    check_form(threshold, np.float32)
    trained_on = devices_for(devices)
    chances = check_quantiles(quantiles)
    if transform_batch is not None:
        check_name(key_added, "key_added")
        key_added = corrected_key(key_added, transform_batch)
    new_depth = check_depth(depth, output, adata.obs_names)
    counts = open_counts(
        adata,
        layer=layer,
        mask=mask,
        allow_fractional=allow_fractional,
        allow_nan=allow_nan,
        for_fit=model is None,
        seed=seed,
        together=trained_on if model is None else None,
    )
    check_names(adata, key_added, layer, chances, overwrite=overwrite, copy=copy)
    if model is None:
        columns, conditions = read_covariates(adata, batch_key, covariates)
        batch = None if transform_batch is None else columns.batch_weights(transform_batch)
        check_corrected(transform_batch, columns.batch_levels)
        model = DAE(likelihood=likelihood, max_epochs=max_epochs, seed=seed, **settings)  # type: ignore[arg-type]
        log_layer_size(adata.shape, 1 + len(chances))
        with open_checkpoints(checkpoint_dir, checkpoint_every, first=trained_on.first) as checkpoints:
            model._fit_counts(counts, columns, conditions, checkpoints=checkpoints, devices=trained_on)
        fitted = model.fitted_model()
        judged = fitted.outcome.report, fitted.outcome.cells
    else:
        if not isinstance(model, DAE):
            raise TypeError(f"model={model!r} is no scdae.DAE. Read a saved one with scdae.DAE.load(path).")
        given = {
            "batch_key": (batch_key, None),
            "covariates": (covariates, None),
            "likelihood": (likelihood, "zinb"),
            "max_epochs": (max_epochs, None),
            "checkpoint_dir": (checkpoint_dir, None),
            "checkpoint_every": (checkpoint_every, None),
            "devices": (devices, None),
        }
        clash = [name for name, (value, default) in given.items() if value != default] + list(settings)
        if clash:
            raise ValueError(f"{clash[0]}=... belongs to the fit and cannot be set together with model=. Leave it out.")
        fitted = model.fitted_model()
        check_corrected(transform_batch, fitted.batch_levels)
        conditions, batch = fitted.conditions(adata), fitted.batch_weights(transform_batch)
        log_layer_size(adata.shape, 1 + len(chances))
        from scdae.outputs.report import query_report, say_if_foreign

        judged = query_report(fitted, counts, conditions, seed)
        say_if_foreign(judged[0])
    gaps = Gaps()
    names = quantile_layers(key_added, chances)
    lazily = choose_lazy(lazy if threshold is None else bool(lazy), 4 * (1 + len(chances)) * adata.n_obs * adata.n_vars)
    layers: dict[str, Any] = {}
    if lazily or threshold is not None:
        latent = read_latent(fitted, counts, conditions, quiet=True, gaps=gaps)
        layers[key_added] = lazy_layer(fitted, counts, conditions, output, new_depth, batch, threshold=threshold)
    else:
        layers[key_added], latent = read_query(fitted, counts, conditions, output, new_depth, gaps, batch)
    for name, chance in zip(names, chances, strict=True):
        layers[name] = lazy_layer(fitted, counts, conditions, chance, None, batch, threshold=threshold, quiet=True)
    if not lazily:
        layers = {name: joined(layer) if hasattr(layer, "dask") else layer for name, layer in layers.items()}

    if copy:
        adata = copied(adata)
    record = _record(output, layer, new_depth, mask, allow_fractional, allow_nan, chances)
    if transform_batch is not None:
        record["transform_batch"] = level_name(transform_batch)
    never = n_never_observed(counts)
    if gaps.n_unobserved or any(never.values()):
        record["missing"] = gaps.report() | never
    as_counted = counted_silent_names(fitted, counts)
    if len(as_counted):
        record["genes_as_counted"] = as_counted
    _write(adata, key_added, fitted, counts, layers, latent, judged, record)
    return adata if copy else None


def _record(
    output: str,
    layer: str | None,
    depth: np.ndarray | None,
    mask: Any,
    allow_fractional: bool,
    allow_nan: bool,
    chances: tuple[float, ...],
) -> dict[str, Any]:
    """What was asked for, for `uns`: enough for :func:`scdae.tl.evaluate` to judge the same run."""
    record: dict[str, Any] = {
        "output": output,
        "layer": layer or "X",
        "allow_fractional": allow_fractional,
        "allow_nan": allow_nan,
    }
    if depth is not None:
        record["depth"] = float(depth[0]) if (depth == depth[0]).all() else np.array(depth)
    if mask is not None:
        record["mask"] = f"layer {mask}" if isinstance(mask, str) else "given"
    if chances:
        record["quantiles"] = np.array(chances)
    return record


def _write(
    adata: AnnData,
    key: str,
    fitted: FittedModel,
    counts: Counts | CountBlocks,
    layers: dict[str, Any],
    latent: np.ndarray,
    judged: tuple[Report, np.ndarray],
    record: dict[str, Any],
) -> None:
    """Put the results where they belong, all of them at the end."""
    from scdae.outputs.report import cell_gain, gene_table, summary

    table = gene_table(fitted, counts, judged[0])
    of_cell = cell_gain(*judged, counts)
    report = summary(fitted, table, record, judged[0])
    with writing_to(adata):
        for name, values in layers.items():
            adata.layers[name] = values
        adata.obsm[f"X_{key}"] = latent
        for name, column in table.items():
            adata.var[f"{key}_{name}"] = column
        adata.obs[f"{key}_gain"] = of_cell
        adata.uns[key] = report
    log = get_logger()
    log.info(f"scdae: wrote layers[{key!r}], {report['unit']}. {report['report']['verdict']}")
    log.info("scdae: the output is for looking and embedding; test differential expression on raw counts.")
