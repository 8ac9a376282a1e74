"""Doublets: which cells are like the sum of two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scdae._log import say_result
from scdae.arguments.names import check_name
from scdae.arguments.numbers import real_number
from scdae.arguments.objects import check_adata, check_settings, listed, nearest, spelled
from scdae.core.data.thinning import thin_values
from scdae.core.doublets.evidence import evidence, place_evidence, probability
from scdae.core.doublets.pairs import random_pairs, sums_of_pairs
from scdae.core.runtime.own_switches import own_switches
from scdae.inputs.count_types import Counts
from scdae.inputs.counts import read_counts
from scdae.inputs.options import DataOptions
from scdae.matrices.annotation import copied
from scdae.model import DAE
from scdae.model.restore import read_latent
from scdae.outputs.slots import check_free, writing_to
from scdae.tools.model import fitted_model

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["doublet_score"]

_WRITER = "scdae.tl.doublet_score"
_LEAST_CELLS = 50  # of a batch
_LEAST_SIMULATED = 1000


@spelled
@own_switches
def doublet_score(
    adata: AnnData,
    model: DAE | None = None,
    *,
    expected_doublet_rate: float = 0.05,
    sim_doublet_ratio: float = 2.0,
    key_added: str = "doublet",
    layer: str | None = None,
    batch_key: str | None = None,
    seed: int = 0,
    allow_fractional: bool = False,
    overwrite: bool = False,
    copy: bool = False,
    **settings: Any,
) -> AnnData | None:
    """Score how much each cell is like the sum of two cells of different kinds.

    Parameters
    ----------
    adata
        Raw counts of all cells of a capture, before doublets were removed. They are read into memory.
    model
        A fitted :class:`scdae.DAE` with the genes of these cells. None: one is fitted to all of them.
    expected_doublet_rate
        Expected fraction of doublets, above 0 and below 1. It scales the probability, and does not change the order.
    sim_doublet_ratio
        Doublets to simulate for each cell; at least 1000 are.
    key_added
        Start of the names that are written.
    layer, allow_fractional
        As for :func:`scdae.pp.impute`.
    batch_key
        Column of `obs` with the capture that each cell is of. Doublets form within a capture, so each is simulated and
        scored by itself. A model that is fitted here corrects for it as well.
    seed
        Seed of everything random.
    overwrite
        Replace columns or an entry of `uns` of these names that this function did not write.
    copy
        Work on a copy and return it.
    **settings
        Settings of the model to fit.

    Returns
    -------
    anndata.AnnData or None
        The copy if `copy`, else None. Written are

        ``obs[key_added]``
            float32 score; higher is more like a doublet. NaN for cells without counts.
        ``obs[key_added + "_probability"]``
            float32: probability of a doublet, if real doublets are like simulated ones and as many as
            `expected_doublet_rate`. One minus its mean over called cells is the false discovery rate to expect. It does
            not look at depth: the simulated doublets are thinned to that of one cell, so large cells of one kind are
            not called. Its order is not that of the score, which ranks real doublets better.
        ``uns[key_added]``
            How it was done; for each batch how much the number of genes counted.

    Raises
    ------
    ValueError, TypeError
        The data are not counts, an argument does not fit, or a batch has fewer than 50 cells with counts. Nothing was
        trained or written.

    See Also
    --------
    anomaly_score : cells unlike those of a reference, whatever the reason.

    Notes
    -----
    Counts of random pairs of cells are added, and placed in latent space among the cells; the score is the log odds of
    simulated doublets among a cell's neighbors (the idea of Scrublet), plus the number of genes where the cells in
    such places do have more molecules. See :mod:`scdae.core.doublets.evidence`. Doublets of two cells of one kind
    lie where single cells lie and are not found.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=120, n_genes=50, seed=0)
    >>> scdae.tl.doublet_score(adata, max_epochs=2)
    >>> adata.obs["doublet_probability"].between(0, 1).all().item()
    True
    """
    check_adata(adata)
    check_settings(doublet_score, settings, seed)
    check_name(key_added, "key_added")
    rate = real_number("expected_doublet_rate", expected_doublet_rate, "a number above 0 and below 1")
    ratio = real_number("sim_doublet_ratio", sim_doublet_ratio, "a number above 0")
    if not 0 < rate < 1:
        raise ValueError(f"expected_doublet_rate={expected_doublet_rate!r}: use a number above 0 and below 1.")
    if ratio <= 0:
        raise ValueError(f"sim_doublet_ratio={sim_doublet_ratio!r}: use a number above 0.")
    columns = (key_added, f"{key_added}_probability")
    check_free(adata, {"obs": columns, "uns": (key_added,)}, key_added, _WRITER, overwrite=overwrite, copy=copy)
    options = DataOptions(layer, None, batch_key if model is None else None, None, allow_fractional)
    codes, batches = _batches(adata, batch_key)
    counts = read_counts(adata, **options.counts, for_fit=model is None)
    depth = np.asarray(counts.matrix.sum(axis=1), np.float64).ravel()
    counted = depth > 0
    _check_enough(codes[counted], batches, batch_key)
    fitted = fitted_model(adata, model, settings, seed=seed, data=options).fitted_model()

    conditions = fitted.conditions(adata)
    latent = read_latent(fitted, counts, conditions)
    genes = np.diff(counts.matrix.indptr).astype(np.float64)
    score, chance = (np.full(adata.n_obs, np.nan) for _ in range(2))
    weights: dict[str, float] = {}
    n_simulated = 0
    for number, batch in enumerate(batches):
        rows = np.flatnonzero(counted & (codes == number))
        rng = np.random.default_rng([seed, number])
        pairs = random_pairs(rows, max(_LEAST_SIMULATED, round(ratio * len(rows))), rng)
        here = None if conditions is None else conditions.take(pairs[:, 0])
        sums = sums_of_pairs(counts.matrix, pairs)
        names = np.char.add("simulated_", np.arange(len(pairs)).astype(str))
        made = Counts(sums, None, names, counts.var_names, counts.fractional)
        places = read_latent(fitted, made, here, quiet=True)
        found = evidence(
            (latent[rows], places),
            (depth[rows], depth[pairs].sum(axis=1)),
            (genes[rows], np.diff(sums.indptr).astype(np.float64)),
        )
        thinned = sums.copy()
        thinned.data = thin_values(sums.data, 0.5, rng)
        thinned.eliminate_zeros()
        made = Counts(thinned, None, names, counts.var_names, counts.fractional)
        as_deep = read_latent(fitted, made, here, quiet=True)
        score[rows] = found.cells
        chance[rows] = probability(place_evidence(latent[rows], as_deep), len(rows), rate, seed)
        weights[batch] = found.size_weight
        n_simulated += len(pairs)

    if copy:
        adata = copied(adata)
    n_likely = int((chance > 0.5).sum())
    with writing_to(adata):
        for name, values in zip(columns, (score, chance), strict=True):
            adata.obs[name] = values.astype(np.float32)
        adata.uns[key_added] = {
            "written_by": _WRITER,
            "layer": layer or "X",
            "seed": int(seed),
            "expected_doublet_rate": rate,
            "n_simulated": n_simulated,
            "batches": np.array(list(weights), dtype=object),
            "size_weight": np.array(list(weights.values())),
            "n_above_half": n_likely,
        }
    say_result(
        f"{n_likely:,} of {int(counted.sum()):,} cells are doublets with a probability above one half, if {rate:.3g} of all cells "
        "are. Doublets of two cells of one kind cannot be found."
    )
    return adata if copy else None


def _batches(adata: AnnData, batch_key: str | None) -> tuple[np.ndarray, list[str]]:
    """Number of each cell's batch, and the names of the batches."""
    if batch_key is None:
        return np.zeros(adata.n_obs, int), ["all cells"]
    if batch_key not in adata.obs.columns:
        raise ValueError(
            f"batch_key={batch_key!r} not found in adata.obs. Columns here: {listed(adata.obs.columns)}."
            f"{nearest(batch_key, adata.obs.columns)}"
        )
    codes, names = pd.factorize(adata.obs[batch_key], sort=True)
    if (codes < 0).any():
        raise ValueError(
            f"obs[{batch_key!r}] has no value in {int((codes < 0).sum()):,} of {adata.n_obs:,} cells. Name the batch of each."
        )
    return codes, [str(name) for name in names]


def _check_enough(codes: np.ndarray, batches: list[str], batch_key: str | None) -> None:
    """Raise unless each batch has enough cells with counts."""
    for number, batch in enumerate(batches):
        n_cells = int((codes == number).sum())
        if n_cells < _LEAST_CELLS:
            where = "adata" if batch_key is None else f"batch {batch!r} of obs[{batch_key!r}]"
            raise ValueError(
                f"{where} has {n_cells:,} cells with counts, and doublets are looked for among at least {_LEAST_CELLS}."
            )
