"""Whether sequences are normal members of a gene family, and whether they are of one piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import false_discovery_control

from scdae._log import get_logger
from scdae.arguments.names import check_name
from scdae.arguments.objects import check_adata, spelled
from scdae.core.guard.chimeras import Evidence, evidence, fit_split, sides
from scdae.core.guard.conformal import conformal_pvalue
from scdae.core.guard.placement import Windows, decoder_of, fit_prior, misfit, place_parts
from scdae.core.runtime.transfers import transfers
from scdae.model import DAE
from scdae.outputs.slots import check_free, writing_to
from scdae.sequences.sets import check_frames, check_words, groups_of, read_windows, shape_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["score_sequences"]

_WRITER = "scdae.tl.score_sequences"
_COLUMNS = ("misfit", "misfit_pvalue", "misfit_fdr", "chimera", "chimera_pvalue", "chimera_fdr")
_WHERE = ("breakpoint", "left", "right")
_SHAPE = 1.5  # degrees of freedom of the distribution by which relatives differ
_JUDGED = 1000  # of the reference, drawn at random: what the ratios of normal sequences are at each breakpoint
_LEAST_SPREAD = 1e-6


@spelled
@transfers
def score_sequences(
    adata: AnnData,
    model: DAE,
    reference: AnnData,
    calibration: AnnData | None = None,
    *,
    group_key: str | None = "genus",
    key_added: str = "guard",
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Score how far sequences are from normal ones, and how far they look like chimeras of two.

    Two questions are asked of each sequence. *Misfit*: does the model explain its words from any latent position?
    Sequences that are not of the family, or hold many errors, are not explained. *Chimera*: is it more probable that
    the two sides of some breakpoint have relatives of their own in the reference than that both have the same?

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
        P-values are fractions of these. None: no p-values.
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
    ``chimera`` (log ratio of the probabilities of two places and of one, in standard deviations of normal sequences, at
    the best breakpoint), for each ``_pvalue`` and ``_fdr`` (over the sequences in `adata`; :cite:p:`Benjamini1995`),
    ``breakpoint`` (letters of the sequence on its left), ``left`` and ``right`` (nearest of the reference to each
    side). `uns[key_added]` has the settings. A sequence of which nothing was observed, such as one of nothing but N,
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
    rng = np.random.default_rng(seed)
    evidence = _score(read, model, shape, groups_of(reference, group_key), rng)

    query = evidence["adata"]
    values: dict[str, Any] = {"misfit": query.misfit, "chimera": query.chimera}
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
            pvalue = conformal_pvalue(values[name], level)
            values[f"{name}_pvalue"], values[f"{name}_fdr"] = pvalue, _fdr(pvalue)
    starts = np.asarray(adata.obsm["window_starts"])
    names, whole = reference.obs_names.to_numpy(str), ~np.isnan(query.chimera)
    values["breakpoint"] = np.where(whole, starts[np.arange(adata.n_obs), query.split + 1], 0).astype(np.int64)
    values["left"], values["right"] = (np.where(whole, names[side], "") for side in (query.left, query.right))
    _tell(adata, query)
    with writing_to(adata):
        for name in columns:
            adata.obs[f"{key_added}_{name}"] = values[name]
        adata.uns[key_added] = {
            "written_by": _WRITER,
            "n_windows": shape[0],
            "n_reference": reference.n_obs,
            "n_calibration": 0 if calibration is None else calibration.n_obs,
            "group_key": group_key or "",
            "seed": seed,
        }


@dataclass(frozen=True)
class _Scores:
    """Of some sequences."""

    misfit: np.ndarray
    chimera: np.ndarray
    split: np.ndarray  # best breakpoint: windows on its left, less one
    left: np.ndarray  # relatives there
    right: np.ndarray


def _score(
    read: Mapping[str, Windows], model: DAE, shape: tuple[int, int], group: np.ndarray, rng: np.random.Generator
) -> dict[str, _Scores]:
    """Score the query and the calibration sequences."""
    outcome = model.fitted_outcome()
    decoder = decoder_of(outcome.fitted, outcome.genes, shape)
    prior = fit_prior(decoder, read["reference"], rng)
    places = {name: place_parts(decoder, prior, part, sides(shape[0])) for name, part in read.items()}
    judged = np.sort(rng.permutation(len(group))[:_JUDGED])
    same = group[judged][:, None] == group
    n_splits = shape[0] - 1
    evidence_of: dict[str, list[Evidence]] = {name: [] for name in read if name != "reference"}
    ratios: dict[str, list[np.ndarray]] = {name: [] for name in evidence_of}
    for at in range(n_splits):
        left, right = 1 + at, 1 + n_splits + at
        known = places["reference"]
        split = fit_split(known[:, left], known[:, right], _SHAPE)
        usual = evidence(split, known[judged, left], known[judged, right], same).ratio
        center, spread = usual.mean(), max(usual.std(), _LEAST_SPREAD)
        for name in evidence_of:
            seen = read[name].observed
            halves = seen[:, : at + 1].any(axis=1) & seen[:, at + 1 :].any(axis=1)
            weighed = evidence(split, places[name][:, left], places[name][:, right])
            evidence_of[name].append(weighed)
            ratios[name].append(np.where(halves, (weighed.ratio - center) / spread, -np.inf))
    scores = {}
    for name, of_name in evidence_of.items():
        ratio = np.stack(ratios[name], axis=1)
        best, rows = ratio.argmax(axis=1), np.arange(len(ratio))
        top = ratio[rows, best]
        scores[name] = _Scores(
            misfit(decoder, read[name], places[name][:, 0]),
            np.where(np.isinf(top), np.nan, top),
            best,
            np.stack([one.left for one in of_name])[best, rows],
            np.stack([one.right for one in of_name])[best, rows],
        )
    return scores


def _tell(adata: AnnData, query: _Scores) -> None:
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
