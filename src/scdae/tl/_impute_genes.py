"""Genes that a spatial panel did not measure, predicted from a single-cell reference."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd

from scdae._log import say_result
from scdae.arguments.numbers import real_number, whole_number
from scdae.arguments.objects import check_adata, check_settings, listed, spelled
from scdae.arguments.selection import positions
from scdae.core.panels.predict import Prediction, predict
from scdae.core.runtime.own_switches import own_switches
from scdae.inputs.counts import read_counts
from scdae.matrices.features import other_features
from scdae.tools.panels import restored

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["impute_genes"]

_LEAST_SHARED = 4


@spelled
@own_switches
def impute_genes(
    spatial: AnnData,
    reference: AnnData,
    *,
    genes: str | Sequence[str] | None = None,
    layer: str | None = None,
    reference_layer: str | None = None,
    level: float | None = 0.9,
    n_neighbors: int = 50,
    key_added: str = "impute_genes",
    seed: int = 0,
    **settings: Any,
) -> AnnData:
    """Predict the counts of genes that a spatial panel did not measure, from a single-cell reference.

    Control probes and blank codes of Xenium, CosMx and MERSCOPE panels are left out, as :func:`scdae.pp.keep_genes`
    does; the log says which.

    Parameters
    ----------
    spatial
        Raw counts of the panel, cells in rows; not changed.
    reference
        Raw counts of single cells of the same tissue; not changed. Genes are matched by name.
    genes
        Genes of the reference to predict: names. None: all that the panel did not measure. Genes that the panel did
        measure cannot be among them; :func:`scdae.pp.impute` restores those.
    layer, reference_layer
        Layers with the counts of each; None for `X`.
    level
        Fraction of the counts that the limits shall hold; None for no limits, which is faster.
    n_neighbors
        Reference cells that are averaged.
    key_added
        Entry of `uns` that says what was done.
    seed
        Seed of everything random.
    **settings
        Settings of the model: those of :class:`scdae.DAE`.

    Returns
    -------
    anndata.AnnData
        Cells of `spatial`, with its `obs` and `obsm`, and the predicted genes with the reference's `var`.

        ``X``
            float32: expected count at the depth of the cell in the panel. NaN for cells without counts in the shared
            genes.
        ``layers["lower"]``, ``layers["upper"]``
            float32: limits of counts, not of their means. A count at a limit is within it by lot where counts are
            small, since no whole numbers hold exactly as many as `level` says.
        ``uns[key_added]``
            ``"hidden_genes"``, a table of the shared genes when a quarter of them at a time was hidden and predicted:
            `correlation` (partial Spearman correlation of measured and predicted counts, given the cell's counts in the
            panel), `measured` and `predicted` (mean counts) and `within` (fraction of the counts within the limits).
            This is what to expect of genes that nobody measured, if they resemble those of the panel. Also the settings
            and what was learned: the weights of the predictions, the line of the levels.

    Raises
    ------
    ValueError, TypeError
        The data are not counts, fewer than four genes are shared, a gene to predict is not in the reference or was
        measured, or an argument does not fit. Nothing was trained.

    See Also
    --------
    scdae.pp.impute : restores the genes that the panel measured.

    Notes
    -----
    One model of both sides, with the platform as batch, removes the noise and predicts the genes by self-consistency:
    they are missing values of the panel's cells. With more than 1,000 genes to predict it learns the shared ones only,
    and the other predictions remain. Each gene is standardized on each side, so that its efficiency on the platform
    drops out. The order of the cells is that of a weighted sum: the mean log count of the nearest reference cells by
    cosine distance, a kernel regression of log counts on the shared genes, one on the same genes without noise, and
    the model's own prediction. Sums lie nearer to the mean in shallow cells. The weights, the levels of the genes and the limits
    are learned from shared genes that are hidden (the model is then fitted without them, four times). Limits are
    quantiles of a negative binomial, wider for genes that vary more in the reference if hidden ones show that, at the
    probabilities that hold the counts of the hidden genes (conformal
    inference, :cite:p:`Vovk2005`); they hold for genes that are predicted as well as those of the panel.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=120, n_genes=40, seed=0)
    >>> panel, reference = adata[:60, :20].copy(), adata[60:].copy()
    >>> predicted = scdae.tl.impute_genes(panel, reference, genes=["gene_30", "gene_31"], max_epochs=2)
    >>> predicted.shape, bool((predicted.layers["lower"] <= predicted.layers["upper"]).all())
    ((60, 2), True)
    """
    check_adata(spatial, "spatial")
    check_adata(reference, "reference")
    check_settings(impute_genes, settings, seed)
    whole_number("n_neighbors", n_neighbors, 1)
    if level is not None and not 0 < (level := real_number("level", level, "a fraction between 0 and 1")) < 1:
        raise ValueError(f"level={level} has to lie between 0 and 1, such as 0.9; None leaves the limits out.")
    shared, wanted = _genes(spatial, reference, genes)
    _say_left_out(spatial, "spatial")
    rows = read_counts(spatial[:, shared], layer=layer).matrix
    cells = read_counts(reference[:, [*shared, *wanted]], layer=reference_layer).matrix
    here, there = (one[:, : len(shared)].toarray().astype(np.float64) for one in (rows, cells))
    ok, usable = here.sum(axis=1) > 0, there.sum(axis=1) > 0
    for name, flags in (("spatial", ok), ("reference", usable)):
        if flags.sum() < 2:
            raise ValueError(
                f"{name}: {flags.sum()} cell(s) have counts in the {len(shared):,} genes that both share; at least 2 are "
                "needed. Check that both name genes in the same way."
            )
    found = predict(
        here[ok],
        there[usable],
        cells[:, len(shared) :].tocsr()[usable],
        partial(restored, settings=settings, seed=seed),
        n_neighbors=n_neighbors,
        level=level,
        rng=np.random.default_rng(seed),
    )
    out = anndata.AnnData(
        _filled(found.counts, ok),
        obs=spatial.obs.copy(),
        var=reference.var.loc[wanted].copy(),
        obsm={key: value.copy() for key, value in spatial.obsm.items()},
    )
    if found.lower is not None and found.upper is not None:
        out.layers["lower"], out.layers["upper"] = _filled(found.lower, ok), _filled(found.upper, ok)
    out.uns[key_added] = _report(found, shared, level, n_neighbors, seed, settings)
    _say(found, len(wanted), len(shared), int((~ok).sum()))
    return out


def _genes(spatial: AnnData, reference: AnnData, genes: Any) -> tuple[list[str], list[str]]:
    """Return the names of the shared genes and of those to predict."""
    for name, one in (("spatial", spatial), ("reference", reference)):
        repeated = one.var_names[one.var_names.duplicated()]
        if len(repeated):
            raise ValueError(
                f"{name}: {len(repeated):,} gene names are repeated, the first being {repeated[0]!r}, and genes are matched "
                f"by name. Call {name}.var_names_make_unique() first."
            )
    controls = _no_genes(spatial)
    measured, known = spatial.var_names[~controls], reference.var_names
    shared = [gene for gene in measured if gene in known]
    if len(shared) < _LEAST_SHARED:
        raise ValueError(
            f"spatial and reference share {len(shared)} gene(s), and at least {_LEAST_SHARED} are needed. Names of spatial: "
            f"{listed(measured[:3])}; of reference: {listed(known[:3])}. Check that both name genes in the same way."
        )
    if genes is None:
        wanted = [gene for gene in known[~_no_genes(reference)] if gene not in spatial.var_names]
        if not wanted:
            raise ValueError("The panel measured all genes of the reference: there is nothing to predict.")
        return shared, wanted
    wanted = list(known[positions(known, [genes] if isinstance(genes, str) else genes, "genes")])
    both = [gene for gene in wanted if gene in spatial.var_names]
    if both:
        raise ValueError(
            f"genes: {len(both):,} of {len(wanted):,} were measured by the panel, the first being {both[0]!r}. Leave them "
            "out; scdae.pp.impute restores measured genes. To see how well one is predicted, remove it from spatial."
        )
    if len(set(wanted)) < len(wanted):
        raise ValueError(
            f"genes: {len(wanted) - len(set(wanted)):,} of {len(wanted):,} are named twice. Name each once."
        )
    return shared, wanted


def _no_genes(adata: AnnData) -> np.ndarray:
    """Return which features are certainly no genes, boolean (n_vars,)."""
    return np.logical_or.reduce([np.zeros(adata.n_vars, bool), *other_features(adata.var_names, adata.var).values()])


def _say_left_out(adata: AnnData, what: str) -> None:
    for kind, which in other_features(adata.var_names, adata.var).items():
        say_result(
            f"{what}: left out {which.sum():,} {kind}, which are no genes ({listed(adata.var_names[which][:3])})."
        )


def _filled(values: np.ndarray, ok: np.ndarray) -> np.ndarray:
    out = np.full((len(ok), values.shape[1]), np.nan, np.float32)
    out[ok] = values
    return out


def _report(
    found: Prediction, shared: list[str], level: float | None, n_neighbors: int, seed: int, settings: dict[str, Any]
) -> dict[str, Any]:
    hidden = found.hidden
    table = {"correlation": hidden.correlation, "measured": hidden.measured, "predicted": hidden.predicted}
    if hidden.within is not None:
        table["within"] = hidden.within
    names = ("neighbors", "regression", "regression_denoised", "model")[: len(found.weights)]
    out: dict[str, Any] = {
        "hidden_genes": pd.DataFrame(table, index=pd.Index(shared, dtype=object)),
        "weights": dict(zip(names, map(float, found.weights), strict=True)),
        "levels": {"intercept": found.levels.intercept, "slope": found.levels.slope},
        "settings": {"n_neighbors": n_neighbors, "seed": seed, **settings},
    }
    if found.calibration is not None:
        one = found.calibration
        out["limits"] = {"level": level, "theta": one.theta, "slope": one.slope, "below": one.below, "above": one.above}
    return out


def _say(found: Prediction, n_wanted: int, n_shared: int, n_empty: int) -> None:
    hidden = found.hidden
    within = "" if hidden.within is None else f", and {hidden.within.mean():.0%} of their counts were within the limits"
    empty = f" {n_empty:,} cell(s) without counts in the shared genes are NaN." if n_empty else ""
    say_result(
        f"{n_wanted:,} gene(s) predicted from {n_shared:,} shared ones. Shared genes, hidden in turn, were predicted with a "
        f"partial rank correlation of {np.mean(hidden.correlation):.2f} on average{within}.{empty}"
    )
