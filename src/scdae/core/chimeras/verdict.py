"""One score for how much a sequence looks like a chimera, out of its windows and its letters."""

from __future__ import annotations

import numpy as np

from scdae.core.chimeras.parents import UNEXPLAINED, Parents
from scdae.core.runtime.threads import few_threads

__all__ = ["features", "verdicts", "with_variants"]

_FOLDS = 5
_TREES = {"max_iter": 150, "learning_rate": 0.05, "max_leaf_nodes": 8, "min_samples_leaf": 20, "l2_regularization": 1.0}
_RISING = (1, 1, 1, 1, 1, 1, 0, 0, 0, 0)  # features that speak for a chimera, whatever the others are
_BY_WINDOWS, _BY_RATIO, _BY_GAIN, _BY_SCALED, _BY_TWO, _BY_ONE = slice(0, 2), 2, 3, 4, 6, 7
_CHANCE, _LOSS = 0.3, 0.04  # of one letter more that is not explained; of the ratio for each
_UNSEEN = -3.0  # for windows that say nothing


def features(ratios: np.ndarray, misfit: np.ndarray, parents: Parents, starts: np.ndarray) -> np.ndarray:
    """What the score rests on: float64 (n_obs, 10).

    Parameters
    ----------
    ratios
        (n_obs, n_windows - 1): log ratio of two places and one at each breakpoint between windows, standardized; minus
        infinity where a side was not observed.
    misfit
        (n_obs,) of the words; NaN for none.
    parents
        By the letters.
    starts
        int (n_windows + 1,): columns at which windows begin, and the last one ends.
    """
    between = np.abs(starts[None, 1:-1] - parents.column[:, None]).argmin(axis=1)
    seen = np.where(np.isfinite(ratios), ratios, _UNSEEN)
    columns = (
        seen.max(axis=1),
        seen[np.arange(len(seen)), between],  # at the breakpoint that the letters tell
        parents.ratio,
        parents.gain,
        parents.scaled_gain,
        parents.exchange,
        parents.two,
        parents.one,
        parents.shorter,
        np.where(np.isnan(misfit), 0, misfit),
    )
    return np.stack(columns, axis=1).astype(np.float64)


def with_variants(chimeric: np.ndarray, n_known: int, normal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add chimeras such as those made of a reference do not show, but real ones do.

    Parameters
    ----------
    chimeric
        (n_chimeras, n_features).
    n_known
        So many of them, the first, have their parents in the reference.
    normal
        (n_normal, n_features).
    rng
        Draws the variants.

    Returns
    -------
    numpy.ndarray
        The chimeras, and below them those with known parents again: half of them with what the windows of a normal
        sequence say, since the parents may be too near for windows to tell, and half with a few letters that no parent
        explains, as errors and stretches that cannot be aligned leave them.
    """
    blind, erring = chimeric[:n_known:2].copy(), chimeric[1:n_known:2].copy()
    blind[:, _BY_WINDOWS] = normal[rng.integers(0, len(normal), len(blind)), _BY_WINDOWS]
    more = rng.geometric(_CHANCE, len(erring))
    erring[:, _BY_ONE] += more
    erring[:, _BY_TWO] += more
    erring[:, _BY_SCALED] = erring[:, _BY_GAIN] / np.sqrt(erring[:, _BY_TWO] + UNEXPLAINED)
    erring[:, _BY_RATIO] *= 1 - _LOSS * np.minimum(more, 10)
    return np.concatenate([chimeric, blind, erring])


def verdicts(
    normal: np.ndarray, group: np.ndarray, chimeric: np.ndarray, others: dict[str, np.ndarray], seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Learn to tell chimeras from normal sequences, and score these and others.

    Parameters
    ----------
    normal
        (n_normal, n_features): sequences of the reference, each compared with other groups than its own; those that have
        relatives in their group may be there once more, compared with these as well.
    group
        int (n_normal,): their groups.
    chimeric
        (n_chimeras, n_features).
    others
        Features of sequences to be judged.
    seed
        Of the division of groups into five parts.

    Returns
    -------
    tuple
        Log odds of the normal sequences, from the trees that have not seen their group; and of the others, the mean over
        all five sets of trees.

    Notes
    -----
    Boosted trees (Friedman, 2001) of scikit-learn, a class as heavy as the other. No calibration sequence is among
    what they learn from, so that p-values stay valid.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    _, first, number = np.unique(group, return_index=True, return_inverse=True)
    number = np.argsort(np.argsort(first))[number]  # by where a group comes first, whatever it is called
    part = np.random.default_rng(seed).permutation(len(first))[number] % _FOLDS
    own = np.zeros(len(normal))
    sums = {name: np.zeros(len(of_name)) for name, of_name in others.items()}
    used = 0
    for fold in range(_FOLDS):
        learned = normal[part != fold]
        if not len(learned):
            continue
        trees = HistGradientBoostingClassifier(
            **_TREES, monotonic_cst=_RISING, early_stopping=False, class_weight="balanced", random_state=seed
        )
        with few_threads(len(learned)):
            trees.fit(np.concatenate([learned, chimeric]), np.repeat([0, 1], [len(learned), len(chimeric)]))
            if (part == fold).any():
                own[part == fold] = trees.decision_function(normal[part == fold])
            for name, of_name in others.items():
                if len(of_name):
                    sums[name] += trees.decision_function(of_name)
        used += 1
    return own, {name: total / max(used, 1) for name, total in sums.items()}
