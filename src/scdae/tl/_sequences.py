"""Whether sequences are normal members of a gene family, and whether they are of one piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import false_discovery_control, ks_2samp

from scdae._log import get_logger
from scdae.arguments.names import check_name
from scdae.arguments.objects import check_adata, spelled
from scdae.core.guard.conformal import conformal_pvalue
from scdae.core.runtime.own_switches import own_switches
from scdae.model import DAE
from scdae.outputs.slots import check_free, writing_to
from scdae.sequences.abundances import find_bimeras, read_abundance
from scdae.sequences.scores import Scores, score
from scdae.sequences.sets import (
    check_frames,
    check_words,
    column_starts,
    groups_of,
    read_letters,
    read_pieces,
    read_windows,
    shape_of,
)

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["score_sequences"]

_WRITER = "scdae.tl.score_sequences"
_COLUMNS = ("misfit", "misfit_pvalue", "misfit_fdr", "chimera", "chimera_pvalue", "chimera_fdr")
_WHERE = ("breakpoint", "left", "right")
_DE_NOVO = ("denovo", "denovo_left", "denovo_right")
_ALIKE = 0.05  # p-value above which the scores of calibration and reference are taken as distributed alike
_QUANTILES = (0.2, 0.5, 0.8)  # of normal scores, that are brought together
_ENOUGH = 100  # normal sequences, for p-values of their own and for it to be noticed if they are not as others
_FEW = 6  # windows, below which there are too few breakpoints
_GAP = 4


@spelled
@own_switches
def score_sequences(
    adata: AnnData,
    model: DAE,
    reference: AnnData,
    calibration: AnnData | None = None,
    *,
    abundance: Any = None,
    group_key: str | None = "genus",
    key_added: str = "guard",
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Score how far sequences are from normal ones, and how far they look like chimeras of two.

    Two questions are asked of each sequence. *Misfit*: does the model explain its words from any latent position?
    Sequences that are not of the family, or hold many errors, are not explained. *Chimera*: is it more probable that
    the two sides of some breakpoint have relatives of their own in the reference than that both have the same, by the
    words of windows and by single letters?

    Parameters
    ----------
    adata
        Sequences to judge, from :func:`scdae.pp.kmers` with ``reference=``.
    model
        :class:`scdae.DAE`, fitted to the reference with its mask. Notes say with which settings.
    reference
        The verified sequences that the model was fitted to.
    calibration
        Normal sequences of groups that are not in the reference, from :func:`scdae.pp.kmers` with ``reference=``.
        P-values are fractions of these, and for chimeras of the reference as well, where a hundred or more of these
        have scores that are distributed alike. If a hundred sequences of the reference have relatives of their own
        group in it, a chimera's p-value is the larger of this and of the fraction of these. None: no p-values.
    abundance
        Reads of the sequences in `adata`, for what is made up of others of the same sample: a column of `obs` such as
        ``"size"``, a series or mapping by name, or a table of samples by sequences (a data frame by name, either way
        round, or an array).
    group_key
        Column of `obs` of the reference with groups of close relatives. Sequences of the reference are compared with
        those of other groups, when it is found out what ratios are usual; one without a label is a group of its own.
        None: with all but themselves.
    key_added
        First part of the names of what is written.
    seed
        Seed of the random sample of the reference.
    overwrite
        Replace columns of these names that this function did not write.

    Notes
    -----
    Written to `obs`, after ``key_added + "_"``: ``misfit`` (deviance of a word from what the model expects, in nats),
    ``chimera`` (log odds, from trees that learn from chimeras made of the reference; where `letters` are missing in
    `obsm`, the log ratio of the probabilities of two places and of one, in standard deviations of normal sequences, at
    the best breakpoint), for each ``_pvalue`` and ``_fdr`` (over the sequences in `adata`; :cite:p:`Benjamini1995`),
    ``breakpoint`` (letters of the sequence on its left), ``left`` and ``right`` (nearest of the reference to each
    side); with `abundance` ``denovo`` (it is exactly the beginning of one more abundant sequence and the end of another),
    ``denovo_left`` and ``denovo_right`` (these), and a chimera p-value of 1 where no two sequences of a sample are
    abundant enough to be parents: twice the reads and 8 in one sample, 1.5 times and 2 in several. `uns[key_added]` has the settings. A sequence of which nothing was observed, such as one of nothing but N,
    has NaN for everything; one that covers less than two windows has no chimera score, breakpoint 0 and no relatives.

    Latent positions of parts of the windows are those under which the decoder makes the part's words most probable.
    P-values are conformal: where the sequences are as unlike the reference as the calibration sequences are, a normal
    one falls below any level with at most that probability. A wide bottleneck is needed since a position has to tell
    relatives apart: ``DAE(n_latent=128, n_components=256, n_hidden=256, likelihood="poisson", max_epochs=60)`` for
    2,000 genes of 16S rRNA.

    Raises
    ------
    ValueError
        Windows, words or settings do not fit each other, a set was made without ``reference=``, or names are taken.
        Nothing was written.

    Examples
    --------
    >>> import scdae
    >>> sequences = scdae.datasets.simulate_16s(n_genera=40, n_per_genus=2, seed=0)
    >>> names = list(sequences)
    >>> reference = scdae.pp.kmers({name: sequences[name] for name in names[:60]}, k=3, n_windows=4)
    >>> model = scdae.DAE(n_latent=8, max_epochs=2).fit(reference, mask="observed")
    >>> query = scdae.pp.kmers({name: sequences[name] for name in names[60:]}, reference=reference)
    >>> scdae.tl.score_sequences(query, model, reference)
    >>> query.obs["guard_chimera"].shape
    (20,)
    """
    check_adata(adata)
    check_adata(reference, "reference")
    if calibration is not None:
        check_adata(calibration, "calibration")
    check_name(key_added, "key_added")
    columns = (*_COLUMNS, *_WHERE) if calibration is not None else ("misfit", "chimera", *_WHERE)
    bimeras = None
    if abundance is not None:
        columns = (*columns, *_DE_NOVO)
        reads = read_abundance(abundance, adata.obs_names, adata.obs)
        if "sequence" not in adata.obs:
            raise ValueError("abundance: adata.obs['sequence'] is missing. Make adata anew with scdae.pp.kmers.")
        bimeras = find_bimeras(adata.obs["sequence"].astype(str).tolist(), reads)
    check_free(
        adata, {"obs": tuple(f"{key_added}_{name}" for name in columns)}, key_added, _WRITER, overwrite=overwrite
    )
    if not isinstance(model, DAE):
        raise TypeError(
            f"model must be a fitted scdae.DAE, got {type(model).__name__}. Read a saved one with scdae.DAE.load(path)."
        )
    model.fitted_outcome()
    shape = shape_of(reference)
    parts = {"reference": reference, "adata": adata}
    if calibration is not None:
        parts["calibration"] = calibration
    check_frames(parts)
    read = {name: read_windows(part, name, model.var_names, shape) for name, part in parts.items()}
    check_words(model, read["reference"], shape)
    _warn_of_few_windows(read["adata"].observed)
    letters = read_letters(parts)
    starts = column_starts(reference) if letters else np.zeros(0, np.int64)
    pieces = read_pieces(parts) if letters else {}
    evidence = score(read, letters, pieces, starts, model, shape, groups_of(reference, group_key), seed)

    query = evidence["adata"]
    values: dict[str, Any] = {"misfit": query.misfit, "chimera": query.chimera}
    n_normal = 0
    if calibration is not None:
        normal = evidence["calibration"]
        for name in ("misfit", "chimera"):
            level = getattr(normal, name)
            level = level[~np.isnan(level)]
            if not len(level):
                raise ValueError(
                    f"calibration: none of its {len(np.atleast_1d(getattr(normal, name))):,} sequences has a {name} score, since they cover too "
                    "few windows. P-values need some: leave calibration out, or give others."
                )
            if name == "chimera":
                level = _with_reference(level, query.usual)
                n_normal = len(level)
            pvalue = conformal_pvalue(values[name], level)
            if name == "chimera" and len(query.related) >= _ENOUGH:  # it may have relatives in the reference, or none
                pvalue = np.maximum(pvalue, conformal_pvalue(values[name], query.related))
            if name == "chimera" and bimeras is not None:
                pvalue = np.where(bimeras.rare | np.isnan(pvalue), pvalue, 1.0)  # it has no parents in the sample
            values[f"{name}_pvalue"], values[f"{name}_fdr"] = pvalue, _fdr(pvalue)
    names, whole = reference.obs_names.to_numpy(str), ~np.isnan(query.chimera)
    values["breakpoint"] = np.where(whole, _breakpoints(adata, query, letters.get("adata"), starts), 0)
    values["left"], values["right"] = (np.where(whole, names[side], "") for side in (query.left, query.right))
    if bimeras is not None:
        own = adata.obs_names.to_numpy(str)
        values["denovo"] = bimeras.chimeric
        for side, parent in (("left", bimeras.left), ("right", bimeras.right)):
            values[f"denovo_{side}"] = np.where(parent >= 0, own[parent], "")
    _tell(adata, query)
    with writing_to(adata):
        for name in columns:
            adata.obs[f"{key_added}_{name}"] = values[name]
        adata.uns[key_added] = {
            "written_by": _WRITER,
            "n_windows": shape[0],
            "n_reference": reference.n_obs,
            "n_calibration": 0 if calibration is None else calibration.n_obs,
            "n_normal": n_normal,
            "group_key": group_key or "",
            "seed": seed,
        }


def _breakpoints(adata: AnnData, query: Scores, rows: np.ndarray | None, starts: np.ndarray) -> np.ndarray:
    """Letters of each sequence on the left of its breakpoint."""
    of_window = np.asarray(adata.obsm["window_starts"])
    at = np.arange(adata.n_obs)
    spot = of_window[at, query.split + 1].astype(np.int64)
    if rows is None or not query.column.any():
        return spot
    window = np.clip(np.searchsorted(starts, query.column, side="right") - 1, 0, len(starts) - 2)
    letter = np.cumsum((rows != _GAP) & (rows >= 0), axis=1)  # N is a letter, too, but hardly ever there
    letter = np.concatenate([np.zeros((len(rows), 1), np.int64), letter], axis=1)
    within = letter[at, query.column] - letter[at, starts[window]]
    return np.where(query.column > 0, of_window[at, window] + within, spot)


def _with_reference(level: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Scores of normal sequences: of the calibration and, moved and scaled to lie as these, of the reference.

    The model knows the reference, so its scores lie a little lower, but their distribution has the same shape. The many
    of them steady the upper tail, of which few calibration sequences tell little.
    """
    if len(level) < _ENOUGH or len(usual) < _ENOUGH:
        return level
    low, middle, high = np.quantile(usual, _QUANTILES)
    low_here, middle_here, high_here = np.quantile(level, _QUANTILES)
    if low < high:
        moved = middle_here + (usual - middle) * (high_here - low_here) / (high - low)
        if ks_2samp(level, moved).pvalue > _ALIKE:
            return np.concatenate([level, moved])
    get_logger().info(
        "scdae: chimera scores of the calibration sequences are not distributed as those of the reference, each compared "
        "with other groups, so p-values rest on the calibration alone."
    )
    return level


def _warn_of_few_windows(observed: np.ndarray) -> None:
    """Amplicons in windows of whole genes are judged at one or two breakpoints only."""
    reach = observed.sum(axis=1)
    few = (reach > 0) & (reach < _FEW)
    if observed.shape[1] >= _FEW and 2 * few.sum() > (reach > 0).sum():
        get_logger().warning(
            f"scdae: {int(few.sum()):,} of {len(observed):,} sequences cover fewer than {_FEW} of the {observed.shape[1]} windows, "
            "too few to find chimeras well. Cut the windows to where they lie, reference = scdae.pp.kmers(genes, "
            "region=sequences), fit the model to that, and make calibration and sequences with reference=reference."
        )


def _tell(adata: AnnData, query: Scores) -> None:
    for values, what, why in (
        (query.misfit, "misfit and chimera scores", "nothing of them was observed (see layers['observed'])"),
        (query.chimera, "chimera scores", "they cover less than two windows, and have no two sides"),
    ):
        without = np.isnan(values)
        if without.any():
            get_logger().warning(
                f"scdae: {int(without.sum()):,} of {adata.n_obs:,} sequences have NaN for {what}, the first being "
                f"{str(adata.obs_names[without][0])!r}: {why}."
            )


def _fdr(pvalue: np.ndarray) -> np.ndarray:
    known = ~np.isnan(pvalue)
    adjusted = np.full(len(pvalue), np.nan)
    adjusted[known] = false_discovery_control(pvalue[known]) if known.any() else np.nan
    return adjusted
