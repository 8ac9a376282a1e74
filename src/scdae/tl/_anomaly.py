"""Guard: which cells are unlike normal ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from scdae._log import say_result
from scdae.arguments.names import check_name
from scdae.arguments.objects import check_adata, check_settings, spelled
from scdae.core.guard.anomaly import Readings, combined, rarity, standardize
from scdae.core.guard.conformal import conformal_pvalue, least_called
from scdae.core.runtime.own_switches import own_switches
from scdae.inputs.counts import counts_to_apply
from scdae.inputs.options import DataOptions
from scdae.matrices.annotation import copied
from scdae.model import DAE
from scdae.model.restore import read_anomaly
from scdae.outputs.slots import check_free, writing_to
from scdae.tools.model import fitted_model
from scdae.tools.normal import NormalCells, check_enough, errors_of_normal

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["anomaly_columns", "anomaly_score"]

_WRITER = "scdae.tl.anomaly_score"


@spelled
@own_switches
def anomaly_score(
    adata: AnnData,
    model: DAE | None = None,
    *,
    normal: AnnData | Any = None,
    key_added: str = "anomaly",
    layer: str | None = None,
    mask: Any = None,
    batch_key: str | None = None,
    covariates: str | Sequence[str] | None = None,
    seed: int = 0,
    allow_fractional: bool = False,
    allow_nan: bool = False,
    overwrite: bool = False,
    copy: bool = False,
    **settings: Any,
) -> AnnData | None:
    """Score how unlike normal cells each cell is: of an unknown kind, a doublet, contaminated or damaged.

    Parameters
    ----------
    adata
        Raw counts, as for :func:`scdae.pp.impute`.
    model
        A :class:`scdae.DAE` that was fitted to other, normal cells. None: one is fitted to seven tenths of the cells
        named in `normal`, or to all cells.
    normal
        Cells known to be normal, which `model` has not seen: a boolean column of `obs`, array or Series, which is taken
        by its names, or another AnnData. None: all cells of `adata`, compared with one another. A p-value is then the
        fraction of cells that look at least as odd; it cannot say that any of them is wrong.
    key_added
        Start of the names that are written.
    layer, mask, batch_key, covariates, allow_fractional, allow_nan
        As for :func:`scdae.pp.impute`. Another AnnData in `normal` is read in the same way; `mask` must then be None or
        the name of a layer.
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
            float32 score: 0 is the middle of normal cells of the same depth, 1 as far above it as one normal cell in
            six is. NaN for cells without counts.
        ``obs[key_added + "_pvalue"]``
            float64: fraction of normal cells with a score at least as high (conformal; for normal cells that were not
            trained on, at most any level with that probability). At least 1 / (number of normal cells + 1).
        ``obs[key_added + "_fdr"]``
            float64: the false discovery rate if all cells with such a p-value or a smaller one are called (Benjamini
            and Hochberg). NaN for the cells named in `normal`. Only with `normal`: cells that are compared with one
            another can be ranked, but none of them can be called anomalous.
        ``obs[key_added + "_rarity"]``, ``obs[key_added + "_deviance"]``
            float32: the two parts of the score on the same scale, how rare the cell's place in latent space is, and the
            deviance for each of its molecules that the model leaves.
        ``uns[key_added]``
            What was compared with what.

    Raises
    ------
    ValueError, TypeError
        The data are not counts, an argument does not fit, or fewer than 20 normal cells are there. Nothing was trained
        or written.

    See Also
    --------
    anomaly_genes : which genes of a cell are unlike those of the normal cells nearest to it.

    Notes
    -----
    A cell's place is rare where the density of normal cells in latent space, a mixture of Gaussians, is low. Its
    deviance is that of :func:`scdae.core.guard.anomaly.entry_deviance`, summed over genes. Both are measured against
    normal cells of the same depth. P-values are those of split conformal inference :cite:p:`Vovk2005`.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=120, n_genes=50, seed=0)
    >>> scdae.tl.anomaly_score(adata, max_epochs=2)
    >>> adata.obs["anomaly_pvalue"].between(0, 1).all().item()
    True
    """
    check_adata(adata)
    check_settings(anomaly_score, settings, seed)
    check_name(key_added, "key_added")
    columns = anomaly_columns(key_added)
    check_free(adata, {"obs": columns, "uns": (key_added,)}, key_added, _WRITER, overwrite=overwrite, copy=copy)
    options = DataOptions(layer, mask, batch_key, covariates, allow_fractional, allow_nan)
    known = NormalCells.of(normal, adata, mask, fit_here=model is None, seed=seed)
    counts = counts_to_apply(adata, **options.counts)
    if model is None and known.trained is not None:
        trained = adata[known.trained]
        model = fitted_model(trained, None, settings, seed=seed, data=options.of_rows(known.trained, adata))
    else:
        model = fitted_model(adata, model, settings, seed=seed, data=options)

    fitted = model.fitted_model()
    readings = read_anomaly(fitted, counts, fitted.conditions(adata))
    calibrating, n_obs = known.rows, adata.n_obs
    if known.others is not None:
        with errors_of_normal():
            others = counts_to_apply(known.others, **options.counts)
            more = read_anomaly(fitted, others, fitted.conditions(known.others))
        readings = Readings(*map(np.concatenate, zip(readings, more, strict=True)))
        calibrating = n_obs + np.arange(known.others.n_obs)
    counted = readings.depth > 0
    calibrating = calibrating[counted[calibrating]]
    check_enough(len(calibrating), "of the normal cells, those with counts are")
    reference = calibrating if known.trained is None else known.trained[counted[known.trained]]
    rarities = rarity(readings.latent, reference, seed)
    is_normal = np.zeros(len(counted), bool)
    is_normal[calibrating] = True
    parts = [
        standardize(np.where(counted, values, np.nan), readings.depth, is_normal)
        for values in (rarities, np.log(np.where(counted, readings.deviance, 1)))
    ]
    score = combined(*parts)
    pvalue = conformal_pvalue(score, score[calibrating])
    m = len(calibrating)  # a normal cell is compared with the others: it must not count itself twice
    pvalue[calibrating] = (pvalue[calibrating] * (m + 1) - 1) / m

    if copy:
        adata = copied(adata)
    tested = counted[:n_obs] & ~known.named
    written = {"": score, "_pvalue": pvalue, "_rarity": parts[0], "_deviance": parts[1]}
    verdict: dict[str, int] = {}
    if known.known:
        fdr = np.full(n_obs, np.nan)
        fdr[tested] = stats.false_discovery_control(pvalue[:n_obs][tested]) if tested.any() else np.nan
        written["_fdr"], verdict = fdr, {"n_below_0.05": int((fdr < 0.05).sum())}
    with writing_to(adata):
        for name in columns:
            end = name.removeprefix(key_added)
            if end in written:
                values = written[end][:n_obs]
                adata.obs[name] = values if end in ("_pvalue", "_fdr") else values.astype(np.float32)
            elif name in adata.obs:  # of an earlier call
                del adata.obs[name]
        adata.uns[key_added] = {
            "written_by": _WRITER,
            "layer": layer or "X",
            "seed": int(seed),
            "compared_with": known.words,
            "normal_cells_known": known.known,
            "n_normal": m,
            "n_trained": 0 if known.trained is None else len(known.trained),
            **verdict,
        }
    _say(known, m, int(tested.sum()), verdict.get("n_below_0.05", 0))
    return adata if copy else None


def anomaly_columns(key: str, *, normal_known: bool = True) -> tuple[str, ...]:
    """Columns of `obs` that :func:`anomaly_score` writes: score, p-value, false discovery rate (of known normal cells), two parts."""
    ends = ("", "_pvalue", "_fdr", "_rarity", "_deviance") if normal_known else ("", "_pvalue", "_rarity", "_deviance")
    return tuple(key + end for end in ends)


def _say(known: NormalCells, n_normal: int, n_tested: int, n_found: int) -> None:
    if known.known:
        say_result(
            f"compared with {n_normal:,} normal cells ({known.words}), {n_found:,} of {n_tested:,} are anomalous at a false "
            "discovery rate of 5 %."
        )
        least = least_called(n_normal, n_tested, 0.05)
        if 1 < least and n_found == 0 < n_tested:
            say_result(
                f"with {n_normal:,} normal cells no p-value is below {1 / (n_normal + 1):.2g}, so none of {n_tested:,} cells can be "
                f"called unless at least {least:,} of them look that odd: too few normal cells to find fewer. Name more of them, or "
                "test fewer cells."
            )
    else:
        say_result(
            "no cells were named as normal, so the scores are a ranking and say of no cell that it is anomalous; the p-value of a "
            "cell is the fraction of cells that look at least as odd. normal= names cells that are known to be normal."
        )
