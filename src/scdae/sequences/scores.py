"""Scores of sequences by the model's windows and by single letters, and where each of them breaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scdae.core.chimeras.alignment import Pieces, align_parents
from scdae.core.chimeras.joined import join
from scdae.core.chimeras.parents import Parents, find_parents
from scdae.core.chimeras.placement import Windows, decoder_of, fit_prior, misfit, place_parts
from scdae.core.chimeras.sides import evidence, fit_split, sides
from scdae.core.chimeras.verdict import features, verdicts, with_variants
from scdae.model import DAE

__all__ = ["Scores", "score"]

_SHAPE = 1.5  # degrees of freedom of the distribution by which relatives differ
_JUDGED = 2000  # of the reference, drawn at random: what the scores of normal sequences are
_JOINED = (
    800,
    400,
)  # chimeras made of the reference to learn from: of its own sequences, of such as are left out of it
_JOINS = "joined"
_RELATED = "related"  # of the reference, each compared with its own group as well
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class Scores:
    """Of some sequences, each (n,)."""

    misfit: np.ndarray
    chimera: np.ndarray
    split: np.ndarray  # best breakpoint: windows on its left, less one
    column: np.ndarray  # best breakpoint by the letters: columns on its left; 0 where the windows tell it
    left: np.ndarray  # relatives there
    right: np.ndarray
    usual: np.ndarray  # chimera scores of the reference, each compared with other groups; none without letters
    related: np.ndarray  # the same of those with relatives in their group, compared with these as well


def score(
    read: dict[str, Windows],
    letters: dict[str, np.ndarray],
    pieces: dict[str, Pieces],
    starts: np.ndarray,
    model: DAE,
    shape: tuple[int, int],
    group: np.ndarray,
    seed: int,
) -> dict[str, Scores]:
    """Score the query and the calibration sequences."""
    rng = np.random.default_rng(seed)
    outcome = model.fitted_outcome()
    decoder = decoder_of(outcome.fitted, outcome.genes, shape)
    prior = fit_prior(decoder, read["reference"], rng)
    judged = np.sort(rng.permutation(len(group))[:_JUDGED])
    _, number, size = np.unique(group, return_inverse=True, return_counts=True)
    related = judged[size[number][judged] > 1]  # they have a relative in their group
    excluded = {"reference": group[judged][:, None] == group}
    judges = [name for name in read if name != "reference"]
    joined = None
    if letters:
        numbers = min(_JOINED[0], 2 * len(group)), min(_JOINED[1], len(group))
        joined = join(read["reference"], letters["reference"], starts, group, shape, numbers, rng)
    if joined is not None:
        read, letters = {**read, _JOINS: joined.windows}, {**letters, _JOINS: joined.rows}
        excluded[_JOINS] = joined.excluded
        if pieces:
            pieces = {**pieces, _JOINS: pieces["reference"].join(joined.parents, joined.column)}
    places = {name: place_parts(decoder, prior, part, sides(shape[0])) for name, part in read.items()}
    known = places["reference"]
    observed = {name: part.observed for name, part in read.items()}
    observed["reference"] = observed["reference"][judged]
    places["reference"] = known[judged]
    again = {_RELATED: related} if joined is not None and len(related) else {}
    for name, of_these in again.items():
        excluded[name] = of_these[:, None] == np.arange(len(group))
        places[name], observed[name] = known[of_these], read["reference"].observed[of_these]
    by_windows = _by_windows(known, places, observed, excluded)
    misfits = {name: misfit(decoder, read[name], places[name][:, 0]) for name in read if name != "reference"}
    if joined is None:
        return {
            name: Scores(misfits[name], *of.best(), *of.relatives(), usual=np.zeros(0), related=np.zeros(0))
            for name, of in by_windows.items()
            if name in judges
        }
    misfits["reference"] = misfit(decoder, _some(read["reference"], judged), places["reference"][:, 0])
    rows = {**letters, "reference": letters["reference"][judged]}
    for name, of_these in again.items():
        misfits[name] = misfits["reference"][np.searchsorted(judged, of_these)]
        rows[name] = letters["reference"][of_these]
    by_letters = {name: find_parents(rows[name], letters["reference"], excluded.get(name)) for name in rows}
    told = [by_letters]
    if pieces:
        known_pieces = pieces["reference"]
        pieces = {**pieces, "reference": known_pieces.some(judged)}
        pieces |= {name: known_pieces.some(of_these) for name, of_these in again.items()}
        told.append({name: align_parents(by_letters[name], pieces[name], known_pieces) for name in rows})
    # Normal sequences are of both kinds: without and with relatives of their group in the reference.
    of_normal = group[np.concatenate([judged, *again.values()])]
    # Letters in columns and letters aligned err in other sequences, so trees of each are asked, and their mean counts.
    answers = []
    for letters_say in told:
        rests = {name: features(by_windows[name].ratio, misfits[name], letters_say[name], starts) for name in rows}
        chimeric = with_variants(rests[_JOINS], numbers[0], rests["reference"], rng)
        normal = np.concatenate([rests["reference"], *(rests[name] for name in again)])
        answers.append(verdicts(normal, of_normal, chimeric, {name: rests[name] for name in judges}, seed))
    own = np.mean([of_normals for of_normals, _ in answers], axis=0)
    scores = {name: np.mean([of_others[name] for _, of_others in answers], axis=0) for name in judges}
    two = np.isfinite(by_windows["reference"].ratio).any(axis=1)
    usual = own[: len(judged)][two]
    beside = own[len(judged) :][: len(related)][two[np.searchsorted(judged, related)]]
    return {
        name: _put_together(misfits[name], scores[name], by_windows[name], by_letters[name], usual, beside)
        for name in judges
    }


class _Ratios(NamedTuple):
    """Evidence of the windows, (n_obs, n_windows - 1)."""

    ratio: np.ndarray
    left: np.ndarray
    right: np.ndarray

    def best(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Score, breakpoint, and no columns."""
        split = self.ratio.argmax(axis=1)
        top = self.ratio[np.arange(len(split)), split]
        return np.where(np.isinf(top), np.nan, top), split, np.zeros(len(split), np.int64)

    def relatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Nearest of the reference to each side of the best breakpoint."""
        split = self.ratio.argmax(axis=1)
        rows = np.arange(len(split))
        return self.left[rows, split], self.right[rows, split]


def _by_windows(
    known: np.ndarray,
    places: Mapping[str, np.ndarray],
    observed: Mapping[str, np.ndarray],
    excluded: Mapping[str, np.ndarray],
) -> dict[str, _Ratios]:
    """Standardized log ratios of two places and one at each breakpoint, and the relatives."""
    n_splits = next(iter(observed.values())).shape[1] - 1
    found: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {name: [] for name in places}
    for at in range(n_splits):
        left, right = 1 + at, 1 + n_splits + at
        split = fit_split(known[:, left], known[:, right], _SHAPE)
        weighed = {
            name: evidence(split, of_name[:, left], of_name[:, right], excluded.get(name))
            for name, of_name in places.items()
        }
        usual = weighed["reference"].ratio
        center, spread = usual.mean(), max(usual.std(), _LEAST_SPREAD)
        for name, one in weighed.items():
            halves = observed[name][:, : at + 1].any(axis=1) & observed[name][:, at + 1 :].any(axis=1)
            found[name].append((np.where(halves, (one.ratio - center) / spread, -np.inf), one.left, one.right))
    return {
        name: _Ratios(*(np.stack(part, axis=1) for part in zip(*of_name, strict=True)))
        for name, of_name in found.items()
    }


def _put_together(
    misfits: np.ndarray,
    score: np.ndarray,
    windows: _Ratios,
    letters: Parents,
    usual: np.ndarray,
    related: np.ndarray,
) -> Scores:
    """Score by both; breakpoint and relatives by the letters where they speak for two parents, else by the windows."""
    of_windows, split, _ = windows.best()
    told = letters.ratio > 0
    left, right = (
        np.where(told, by_letters, by_windows)
        for by_letters, by_windows in zip((letters.left, letters.right), windows.relatives(), strict=True)
    )
    score = np.where(np.isnan(of_windows), np.nan, score)
    return Scores(misfits, score, split, np.where(told, letters.column, 0), left, right, usual, related)


def _some(windows: Windows, rows: np.ndarray) -> Windows:
    return Windows(windows.counts[rows], windows.observed[rows])
