"""Restore the counts of every cell and gene: check, fit or take a model, restore, write."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae.arguments.objects import check_adata, check_settings, spelled
from scdae.core.minibatches.devices import devices_for
from scdae.core.runtime.own_switches import own_switches
from scdae.inputs.counts import open_counts
from scdae.inputs.options import DataOptions
from scdae.matrices.annotation import copied
from scdae.model import DAE
from scdae.model.output_options import OutputOptions
from scdae.outputs.names import Names
from scdae.pp._steps import Run, fit_model, restore, take_model, write

if TYPE_CHECKING:
    from anndata import AnnData


__all__ = ["impute"]


@spelled
@own_switches
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
    output: str | Sequence[str] = "mean",
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

    A denoising autoencoder learns, from molecules set aside, what a cell's expression is; each entry's own count is
    then weighed against that. `X`, `raw` and the layers that are there stay as they are.

    Parameters
    ----------
    adata
        Raw counts, cells in rows: dense, sparse, a view, backed or dask.
    layer
        Layer with the counts; None for `X`.
    mask
        What was observed: boolean layer name, array, sparse matrix or DataFrame (n_obs, n_vars), True = observed; a
        DataFrame is taken by its names. Other entries are left out of training and filled by self-consistency: with
        what the network makes of the completed profile. ``uns[key_added]["missing"]`` says how many there were, how
        many still moved at the end, after how many iterations, and by what factor the changes shrank from one to the
        next. Genes that no cell observed, and cells of which no gene was observed, come back as NaN, and are counted
        there, too.
    batch_key
        Column of `obs` with the batch. What a batch does to the genes is learned, the latent space is common to all
        batches, and each cell's output is that of its own batch.
    covariates
        Further columns of `obs` that act on expression: text, booleans and categories are categorical, numbers
        continuous.
    transform_batch
        A batch, or ``"average"``: all cells come back as if they had been measured in that batch, at their own depth,
        so that the layer is corrected for batches. Everything written then has ``"_as_"`` and this name behind
        `key_added`: ``layers["scdae_as_average"]``. Leave it out where the batch is biology that has to stay.
    key_added
        Name of the output. A second call with the same name replaces the output of the first, with all its layers.
    likelihood
        ``"zinb"``: negative binomial, with dropout for the genes in which it earns its place on held-out molecules;
        ``"nb"``: without; ``"poisson"``.
    output
        What the layer holds: ``"mean"``, expected counts at the cell's own depth; ``"prior"``, the same without the
        cell's own count of the gene (the full smoothing); ``"rate"``, fraction of the cell's expression; ``"sd"``,
        standard deviation of the expected count; ``"log1p"``, expected log1p of counts per 10,000, as if the cell were
        measured anew (less than the logarithm of the mean, since counts vary). Several, such as ``("mean", "log1p")``,
        become several layers of one fit: the first is ``layers[key_added]``, and each other has its name behind that,
        ``layers[key_added + "_log1p"]``.
    depth
        Molecules of that new measurement, for ``output="log1p"``: a number, or one for each cell; a Series is
        taken by its names. None: as many as the cell has.
    quantiles
        Probabilities whose quantiles of the expected count become further layers: ``(0.05, 0.95)`` writes
        ``layers[key_added + "_q05"]`` and ``layers[key_added + "_q95"]``, the ends of the interval that holds the
        expected count with probability 0.9, given the model.
    lazy
        Whether layers are dask arrays, whose cells are read and restored when they are looked at, written or computed.
        None: where they would take more than half of the free memory, and a warning says how much that is.
    threshold
        Leave out values below it, such as 0.01 expected counts: layers are then sparse. None for all.
    max_epochs
        Passes over the cells; None chooses. Training stops earlier when held-out molecules say so.
    model
        A fitted :class:`scdae.DAE` to use in place of training one; the settings of the fit may then not be given.
        Genes that it names and never counted come back as they were counted; ``uns[key_added]["genes_as_counted"]``
        names those that have counts here.
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
        Where and how often it is kept how far training is, as in :meth:`scdae.DAE.fit`: a call that was killed goes on
        from there when it is made again.
    devices
        Devices that share the cells of each step of the training, as in :meth:`scdae.DAE.fit`.
    **settings
        Further settings of :class:`scdae.DAE`: `effort` (``"fast"``, ``"default"`` or ``"best"``), `n_latent`, `noise`,
        `corruption`, `weight_decay` and others.

    Returns
    -------
    anndata.AnnData or None
        The copy if `copy`, else None. Written are ``layers[key_added]`` (float32, n_obs x n_vars; NumPy array, SciPy
        CSR matrix with `threshold`, or dask array if lazy) and those of further outputs and of `quantiles`, ``obsm["X_" + key_added]`` (latent
        representation), ``var[key_added + ...]``: ``_dispersion`` (1 / theta), ``_dropout`` (mean probability),
        ``_zero_inflated`` (whether the gene rather has dropout than not), ``_zero_inflated_probability`` (how probable
        that is), ``_gate`` (how much of the network's departure from the gene's mean was kept, 0 to 1), ``_gain`` (by
        how much held-out molecules are likelier by what the cell's other genes say than by the gene's average, in nats
        per molecule; NaN where there are none) and ``_helped`` (whether that is beyond chance); ``obs[key_added +
        "_gain"]``, the same for each cell; and ``uns[key_added]`` with settings, history, report and the unit of each
        layer (``uns[key_added]["units"]``).

    Raises
    ------
    ValueError, TypeError
        The data are not counts or an argument does not fit. Nothing was trained or written.

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
    >>> scdae.pp.impute(adata, output=("mean", "log1p"), max_epochs=2)  # the fit that is there
    >>> "scdae" in adata.layers, "scdae_log1p" in adata.layers
    (True, True)
    """
    check_adata(adata)
    check_settings(impute, settings, seed)
    data = DataOptions(layer, mask, batch_key, covariates, allow_fractional, allow_nan)
    wanted = OutputOptions.checked(adata, output, depth, quantiles, lazy, threshold)
    names = Names.of(key_added, transform_batch, wanted.outputs, wanted.quantiles)
    devices_of_fit = devices_for(devices)
    counts = open_counts(
        adata, for_fit=model is None, seed=seed, together=devices_of_fit if model is None else None, **data.counts
    )
    names.check_free(adata, layer, overwrite=overwrite, copy=copy)
    run = Run(adata, data, wanted, counts, transform_batch)

    if model is None:
        new = DAE(likelihood=likelihood, max_epochs=max_epochs, seed=seed, **settings)  # type: ignore[arg-type]
        ready = fit_model(run, new, (checkpoint_dir, checkpoint_every), devices_of_fit)
    else:
        given = {
            "batch_key": (batch_key, None),
            "covariates": (covariates, None),
            "likelihood": (likelihood, "zinb"),
            "max_epochs": (max_epochs, None),
            "checkpoint_dir": (checkpoint_dir, None),
            "checkpoint_every": (checkpoint_every, None),
            "devices": (devices, None),
        }
        of_fit = [name for name, (value, default) in given.items() if value != default] + list(settings)
        ready = take_model(run, model, of_fit, seed)

    restored = restore(run, ready, names)
    if copy:
        adata = copied(adata)
    write(adata, run, ready, restored, names)
    return adata if copy else None
