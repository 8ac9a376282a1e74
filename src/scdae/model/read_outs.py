"""What a fitted model is asked: restored counts, the latent space, posteriors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae.arguments.numbers import check_form
from scdae.arguments.objects import check_adata, spelled
from scdae.arguments.selection import positions
from scdae.core.runtime.own_switches import own_switches
from scdae.core.runtime.platforms import check_platform
from scdae.core.training.fit import Outcome
from scdae.inputs.counts import AnyCounts, counts_to_apply, read_counts, unread_counts
from scdae.inputs.covariates import Covariates
from scdae.inputs.options import DataOptions
from scdae.model.fitted_model import FittedModel
from scdae.model.lazy import joined, lazy_layer
from scdae.model.options import check_depth, check_outputs
from scdae.model.posterior import Posterior, posterior_of
from scdae.model.restore import read_latent, read_query

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ReadOuts"]


class ReadOuts:
    """A model that may be fitted, and all that can be read out of it once it is."""

    _fitted: FittedModel | None = None

    def fitted_model(self) -> FittedModel:
        """Return what all read-outs work with; an error when there was no fit."""
        check_platform()
        if self._fitted is None:
            raise ValueError(
                "This DAE is not fitted. Call fit(adata) first, or load a saved model with DAE.load(path)."
            )
        return self._fitted

    def fitted_outcome(self) -> Outcome:
        """Result of the fit; an error when there was none."""
        return self.fitted_model().outcome

    @property
    def outcome(self) -> Outcome | None:
        """Result of the fit; None when there was none."""
        return None if self._fitted is None else self._fitted.outcome

    @property
    def var_names(self) -> np.ndarray:
        """Names of the genes of the fit: str (n_vars,)."""
        return np.zeros(0, np.str_) if self._fitted is None else self._fitted.var_names

    @property
    def never_observed(self) -> np.ndarray:
        """Positions of the genes that no cell of the fit observed: int64 (n,)."""
        return np.zeros(0, np.int64) if self._fitted is None else self._fitted.never_observed

    @property
    def covariates(self) -> Covariates:
        """Columns of `obs` that the model knows."""
        return Covariates() if self._fitted is None else self._fitted.covariates

    @property
    def batch_key(self) -> str | None:
        """Column of `obs` with the batch, or None."""
        return self.covariates.batch_key

    @property
    def batch_levels(self) -> list[str]:
        """Names of the batches that the model knows."""
        return self.covariates.batch_levels

    @spelled
    @own_switches
    def impute(
        self,
        adata: AnnData,
        *,
        output: str | Sequence[str] = "mean",
        depth: float | np.ndarray | None = None,
        transform_batch: str | None = None,
        lazy: bool = False,
        threshold: float | None = None,
        genes: Any = None,
        dtype: Any = np.float32,
        layer: str | None = None,
        mask: Any = None,
        allow_fractional: bool = False,
        allow_nan: bool = False,
    ) -> Any:
        """Restore the counts of `adata`, which is not changed. Genes are matched by name.

        Parameters
        ----------
        adata
            The data the model was fitted to, or others with the same genes in any order.
        output
            ``"mean"``: expected counts at the cell's own depth; ``"prior"``: the same without the cell's own count of
            the gene; ``"rate"``: fraction of the cell's expression; ``"sd"``: standard deviation of the expected count;
            ``"log1p"``: expected log1p of counts per 10,000, as if the cell were measured anew. Several, such as
            ``("mean", "log1p")``, come back as a dictionary.
        depth
            Molecules of that new measurement, for ``output="log1p"``: a number, or one for each cell; a Series is taken
            by its names. None: as many as the cell has.
        transform_batch
            Batch in which all cells are to have been measured, or ``"average"``; None: each cell in its own. A cell's
            depth stays its own.
        lazy
            Give a dask array that reads and restores cells when they are looked at. Counts are checked then, too.
        threshold
            Leave out values below it: the result is sparse. None for all.
        genes
            Genes that are wanted: names, positions, a slice, or a boolean array or Series. None: all. The cells are
            placed by all genes.
        dtype
            float32, or float16 where the result is dense.
        layer, mask, allow_fractional, allow_nan
            As in :meth:`fit`.

        Returns
        -------
        numpy.ndarray, scipy.sparse.csr_matrix or dask.array.Array
            (n_obs, n_genes), in the order of `adata`; a dictionary of these by their `output` where several were asked
            for. Genes that the model does not know are NaN, as are cells of which
            nothing was observed. Genes that the model names and never counted come back as they were counted;
            ``"prior"`` and ``"sd"`` of such counts are NaN.

        Examples
        --------
        >>> import scdae
        >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
        >>> model = scdae.DAE(max_epochs=2).fit(adata)
        >>> layer = model.impute(adata, lazy=True)
        >>> layer[:5, :3].compute().shape
        (5, 3)
        >>> restored = model.impute(adata, output=("mean", "log1p"))
        >>> {name: values.shape for name, values in restored.items()}
        {'mean': (80, 50), 'log1p': (80, 50)}
        """
        check_adata(adata)
        outputs = check_outputs(output)
        new_depth = check_depth(depth, output, adata.obs_names)
        check_form(threshold, dtype)
        columns = None if genes is None else positions(adata.var_names, genes, "genes")
        data = DataOptions(layer, mask, None, None, allow_fractional, allow_nan)
        model = self.fitted_model()
        conditions, batch = model.conditions(adata), model.batch_weights(transform_batch)
        counts: AnyCounts = unread_counts(adata, **data.counts) if lazy else counts_to_apply(adata, **data.counts)
        layers: dict[str, Any] = {}
        if not lazy and threshold is None and columns is None:
            values, _ = read_query(model, counts, conditions, outputs, new_depth, batch=batch)
            layers = {name: part.astype(dtype, copy=False) for name, part in zip(outputs, values, strict=True)}
        else:
            form: dict[str, Any] = {"genes": columns, "threshold": threshold, "dtype": dtype}
            for name in outputs:
                layer_of = lazy_layer(model, counts, conditions, name, new_depth, batch, quiet=len(layers) > 0, **form)
                layers[name] = layer_of if lazy else joined(layer_of)
        return layers[outputs[0]] if isinstance(output, str) else layers

    @spelled
    @own_switches
    def latent(
        self,
        adata: AnnData,
        *,
        layer: str | None = None,
        mask: Any = None,
        allow_fractional: bool = False,
        allow_nan: bool = False,
    ) -> np.ndarray:
        """Latent representation of the cells of `adata`: float32 (n_obs, n_latent). Arguments as in :meth:`impute`."""
        check_adata(adata)
        counts = counts_to_apply(adata, layer=layer, mask=mask, allow_fractional=allow_fractional, allow_nan=allow_nan)
        model = self.fitted_model()
        return read_latent(model, counts, model.conditions(adata))

    @spelled
    @own_switches
    def posterior(
        self,
        adata: AnnData,
        *,
        genes: Any = None,
        cells: Any = None,
        layer: str | None = None,
        mask: Any = None,
        allow_fractional: bool = False,
        allow_nan: bool = False,
    ) -> Posterior:
        """Posterior of the expected counts: mean, standard deviation, quantiles and draws.

        Parameters
        ----------
        adata
            The data the model was fitted to, or others with the same genes in any order.
        genes, cells
            What to look at: names, positions, a slice, or a boolean array or Series. None: all. All genes of a cell are
            used to place it, whatever `genes` says.
        layer, mask, allow_fractional, allow_nan
            As in :meth:`fit`.

        Returns
        -------
        Posterior
            With ``mean``, ``sd``, ``quantile(q)``, ``interval(level)`` and ``sample(n)``.

        Raises
        ------
        ValueError
            Cells or genes are not there, or the model does not know a gene.

        Examples
        --------
        >>> import scdae
        >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
        >>> posterior = scdae.DAE(max_epochs=2).fit(adata).posterior(adata, genes=adata.var_names[:3])
        >>> lower, upper = posterior.interval(0.9)
        >>> bool((lower <= upper).all()), posterior.sd.shape
        (True, (80, 3))
        """
        check_adata(adata)
        chosen = positions(adata.var_names, genes, "genes")
        part, data = adata, DataOptions(layer, mask, None, None, allow_fractional, allow_nan)
        if cells is not None:
            rows = positions(adata.obs_names, cells, "cells")
            part = adata[rows]
            data = data.of_rows(rows, adata)
        counts = read_counts(part, for_fit=False, **data.counts)
        model = self.fitted_model()
        return posterior_of(model, counts, model.conditions(part), (part.obs_names, part.var_names), chosen)
