"""The model as an object: fitted to data, saved and loaded; what is read out of it is in :mod:`scdae.model.read_outs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae._log import get_logger, progress
from scdae.arguments.objects import check_adata, spelled
from scdae.core.config import Config, Corruption, Effort, Likelihood
from scdae.core.data.conditions import Conditions
from scdae.core.minibatches.devices import Devices, devices_for
from scdae.core.network.fitted import Fitted, sizes_of
from scdae.core.progress.checkpoints import Checkpoints, open_checkpoints
from scdae.core.runtime.own_switches import own_switches
from scdae.core.training.fit import fit_counts
from scdae.inputs.count_types import CountBlocks, Counts
from scdae.inputs.counts import open_counts
from scdae.inputs.covariates import Covariates, read_covariates
from scdae.inputs.doubts import say_few_cells
from scdae.inputs.genes import place_genes
from scdae.inputs.options import DataOptions
from scdae.inputs.silent import never_observed
from scdae.matrices.obs_columns import has_column
from scdae.model.fitted_model import FittedModel
from scdae.model.read_outs import ReadOuts
from scdae.model.serialization import load_model, save_model

if TYPE_CHECKING:
    from anndata import AnnData


__all__ = ["DAE"]


class DAE(ReadOuts):
    """Denoising autoencoder for counts.

    Parameters
    ----------
    likelihood
        Distribution of the counts: ``"zinb"`` (dropout only where it earns its place on held-out molecules), ``"nb"``
        or ``"poisson"``.
    n_latent
        Width of the bottleneck; None chooses 12 to 64, by how many principal axes of the counts are found again in
        molecules that were left out. A fitted model says in its `config` what was chosen.
    n_hidden
        Width of the encoder's hidden layer; None chooses 64 to 256, by `n_latent`.
    n_components
        Principal axes of the normalized counts that the encoder gets; None chooses 64 or 128, by the number of cells.
    corruption
        What the network learns to undo: ``"thinning"`` (molecules set aside), ``"masking"`` (entries set aside) or
        ``"gaussian"`` (noise on the normalized input).
    noise
        Level of the corruption, or its range (low, high), drawn anew for each cell and step: share set aside, or
        standard deviation for ``"gaussian"``.
    max_epochs
        Passes over the cells; None chooses. Training stops earlier when held-out molecules are no longer predicted
        better.
    batch_size
        Cells in a step; None chooses 64 to 96 by the number of genes, and up to 512 of many cells.
    learning_rate
        Peak learning rate of AdamW.
    weight_decay
        Decoupled weight decay; None chooses: more where genes have fewer molecules, and where there are fewer steps.
    gap_tolerance
        Entries that were not observed are filled by self-consistency: what the model makes of the completed profile is
        put in, until no log count moves by more than this.
    gap_max_iter
        Most iterations of it. 0 is the answer of one pass; None: at most 50, or 0 where one pass predicts observed entries
        that are hidden on purpose better, as with few observed entries in every cell.
    gap_damping
        Share of the way that each iteration goes, above 0 and up to 1.
    held_out
        Share of the molecules set aside for stopping, gate and report; None: 3 to 10 %, by their number.
    seed
        Seed of everything random. Same seed, same data, same machine: same bits. A NumPy Generator or RandomState gives one number,
        which is the seed then.
    effort
        How much the fit may cost: ``"default"``; ``"fast"``, fewer steps and a small network; or ``"best"``, three
        times the steps and four networks, averaged into one. What else is set, such as `n_latent` or `max_epochs`, goes
        before it.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
    >>> model = scdae.DAE(max_epochs=2).fit(adata)
    >>> model.impute(adata).shape, model.latent(adata).shape
    ((80, 50), (80, 12))
    """

    @spelled
    def __init__(
        self,
        *,
        likelihood: Likelihood = "zinb",
        n_latent: int | None = None,
        n_hidden: int | None = None,
        n_components: int | None = None,
        corruption: Corruption = "thinning",
        noise: float | tuple[float, float] = (0.1, 0.8),
        max_epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 0.02,
        weight_decay: float | None = None,
        gap_tolerance: float = 1e-3,
        gap_max_iter: int | None = None,
        gap_damping: float = 1.0,
        held_out: float | None = None,
        seed: int = 0,
        effort: Effort = "default",
    ):
        self.config = Config(
            likelihood=likelihood,
            n_latent=n_latent,
            n_hidden=n_hidden,
            n_components=n_components,
            corruption=corruption,
            noise=noise,  # type: ignore[arg-type]  # a single level becomes a range
            max_epochs=max_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            gap_tolerance=gap_tolerance,
            gap_max_iter=gap_max_iter,
            gap_damping=gap_damping,
            held_out=held_out,
            seed=seed,
            effort=effort,
        )
        self._asked: dict[str, Any] = {}  # sizes as they were asked for, where a fit has chosen others
        self._fitted: FittedModel | None = None

    def __repr__(self) -> str:
        state = "not fitted" if self._fitted is None else f"fitted to {len(self._fitted.var_names):,} genes"
        return f"DAE(likelihood={self.config.likelihood!r}, n_latent={self.config.n_latent}): {state}"

    @spelled
    @own_switches
    def fit(
        self,
        adata: AnnData,
        *,
        layer: str | None = None,
        mask: Any = None,
        batch_key: str | None = None,
        covariates: str | Sequence[str] | None = None,
        allow_fractional: bool = False,
        allow_nan: bool = False,
        checkpoint_dir: str | PathLike[str] | None = None,
        checkpoint_every: int | None = None,
        devices: int | str | None = None,
    ) -> DAE:
        """Train on the counts of `adata`, which is not changed.

        Parameters
        ----------
        adata
            Cells in rows, genes in columns.
        layer
            Layer with the counts; None for `X`.
        mask
            What was observed: boolean layer name, array, sparse matrix or DataFrame (n_obs, n_vars), True = observed. A
            DataFrame is taken by its names.
        batch_key
            Column of `obs` with the batch, whatever its type. What a batch does to the genes is learned, and the latent
            space is common to all batches.
        covariates
            Further columns of `obs` that act on expression: text, booleans and categories are categorical, numbers
            continuous. Cells that the model is applied to later may have other numbers; those outside of the range here
            are taken for its nearest end, and a warning says so.
        allow_fractional
            Admit expected counts that are not whole numbers.
        allow_nan
            Take NaN for entries that were not observed.
        checkpoint_dir
            Folder, made if it is not there, in which it is kept how far training is. A run that was killed and is
            called again with the same arguments goes on from there, and ends with the bits that it would have had.
        checkpoint_every
            Steps from one checkpoint to the next; None: about a minute.
        devices
            Devices that share the cells of each step: a number, or ``"all"``, which are those of all processes where
            :func:`jax.distributed.initialize` was called. None: one. The network is the same but for rounding.

        Returns
        -------
        DAE
            The model itself.

        Raises
        ------
        ValueError, TypeError
            The data are not counts, or an argument does not fit; nothing was trained.
        """
        check_adata(adata)
        data = DataOptions(layer, mask, batch_key, covariates, allow_fractional, allow_nan)
        training_devices = devices_for(devices)
        with open_checkpoints(checkpoint_dir, checkpoint_every, first=training_devices.first) as checkpoints:
            counts = open_counts(adata, together=training_devices, **data.counts)
            say_few_cells(adata.n_obs)
            columns, conditions = read_covariates(adata, **data.columns)
            return self._fit_counts(counts, columns, conditions, checkpoints=checkpoints, devices=training_devices)

    @spelled
    @own_switches
    def adapt(
        self,
        adata: AnnData,
        *,
        layer: str | None = None,
        mask: Any = None,
        batch_key: str | None = None,
        covariates: str | Sequence[str] | None = None,
        max_epochs: int | None = None,
        seed: int = 0,
        allow_fractional: bool = False,
        allow_nan: bool = False,
        checkpoint_dir: str | PathLike[str] | None = None,
        checkpoint_every: int | None = None,
        devices: int | str | None = None,
    ) -> DAE:
        """Go on from this model to other data: a new model, while this one stays as it is.

        The new model starts with this one's weights and decays to them. What the other data do to each gene is worked
        out first, for each of their batches, and taken off what the encoder sees, so that kinds of cells lie
        near those of the reference, if not as mixed with them as its own. The idea is that of scArches
        :cite:p:`Lotfollahi2022`.

        Parameters
        ----------
        adata
            The other data; not changed. Genes are matched by name. Those that this model does not know are learned as
            well.
        batch_key
            Column of `obs` with their batches. None: this model's, if the data have it; else they are taken for one
            batch.
        max_epochs
            Passes over the cells; None chooses as for a fit.
        seed
            Seed of everything random.
        layer, mask, covariates, allow_fractional, allow_nan, checkpoint_dir, checkpoint_every, devices
            As in :meth:`fit`.

        Returns
        -------
        DAE
            A model of these data. Apply this one to cells of the reference, and that one to cells like those in
            `adata`.

        Raises
        ------
        ValueError
            This model is not fitted, fewer than half of its genes are there, or the data are not counts.

        Examples
        --------
        >>> import scdae
        >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
        >>> model = scdae.DAE(max_epochs=2).fit(adata[:40])
        >>> model.adapt(adata[40:], max_epochs=2).impute(adata[40:]).shape
        (40, 50)
        """
        check_adata(adata)
        model, training_devices = self.fitted_model(), devices_for(devices)
        data = DataOptions(layer, mask, batch_key, covariates, allow_fractional, allow_nan)
        counts = open_counts(adata, together=training_devices, **data.counts)
        if batch_key is None and self.batch_key is not None and has_column(adata, self.batch_key):
            data = replace(data, batch_key=self.batch_key)
        columns, conditions = read_covariates(adata, **data.columns)
        if not columns.batches:
            columns = replace(columns, moved=True)
            conditions = columns.conditions(adata)
        gene_in_reference = place_genes(counts.var_names, model.var_names, model.outcome.genes)
        new = DAE()
        new.config = replace(self.config, max_epochs=max_epochs, seed=seed)
        with open_checkpoints(checkpoint_dir, checkpoint_every, first=training_devices.first) as checkpoints:
            return new._fit_counts(
                counts, columns, conditions, (model.network, gene_in_reference), checkpoints, training_devices
            )

    @own_switches
    def _fit_counts(
        self,
        counts: Counts | CountBlocks,
        covariates: Covariates,
        conditions: Conditions | None,
        reference: tuple[Fitted, np.ndarray] | None = None,
        checkpoints: Checkpoints | None = None,
        devices: Devices | None = None,
    ) -> DAE:
        def watch(steps: Any, total: int) -> Any:
            return progress(steps, total=len(steps), description="scdae: training", first="scdae: compiling")

        get_logger()  # says where the messages of the training go
        known, blocks = (counts, None) if isinstance(counts, Counts) else (counts.sample, counts.blocks)
        config = replace(self.config, **self._asked)
        outcome = fit_counts(
            known.matrix,
            known.unobserved,
            conditions,
            covariates.n_levels,
            len(covariates.batch_levels) if covariates.batches else 0,
            config,
            reference=reference,
            blocks=blocks,
            watch=watch,
            checkpoints=checkpoints,
            devices=devices,
        )
        sizes: dict[str, Any] = sizes_of(outcome.fitted)
        self._asked = {name: getattr(config, name) for name in sizes}
        self.config = replace(config, **sizes)
        silent = never_observed(counts)
        self._fitted = FittedModel(self.config, outcome, counts.var_names, covariates, silent)
        if outcome.extremes is not None:
            row, column = (int(part[0]) for part in outcome.extremes)
            get_logger().warning(
                f"scdae: {len(outcome.extremes[0]):,} count(s) are larger than ten whole cells, the first in cell "
                f"{str(counts.obs_names[row])!r}, gene {str(counts.var_names[column])!r}. They are not learned from and come back as they "
                "are; find out what they are, or remove these cells."
            )
        if len(silent):
            get_logger().warning(
                f"scdae: {len(silent):,} of {len(counts.var_names):,} genes were observed in no cell (mask), the first "
                f"being {str(counts.var_names[silent[0]])!r}. Nothing can be learned about them: they come back as NaN."
            )
        return self

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted model to one file: arrays, and JSON with a format version; no pickle."""
        save_model(self.fitted_model(), path)

    @staticmethod
    def load(path: str | PathLike[str]) -> DAE:
        """Read a model that :meth:`save` wrote."""
        model = DAE()
        model._fitted = load_model(path)
        model.config = model._fitted.config
        return model
