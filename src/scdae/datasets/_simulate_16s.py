"""A simulated gene family that looks like 16S rRNA: a tree, and stretches that change little between others that change much."""

from __future__ import annotations

import numpy as np

from scdae.arguments.numbers import check_seed, real_number, whole_number
from scdae.arguments.objects import spelled

__all__ = ["simulate_16s"]

_STRETCH = 60  # letters, on average, of a conserved or a variable stretch
_SLOW, _FAST = 0.05, 2.2  # rates of change there, relative to the mean of the gene
_STEPS = (
    0.10,
    0.06,
    0.03,
    0.01,
)  # change from root to phylum, on to family, to genus, to species, in substitutions a letter
_PER = 6  # genera of a family, and families of a phylum
_INDEL = 0.04  # of the changes
_CUT = 30  # letters, at most, by which a sequence begins later or ends earlier


@spelled
def simulate_16s(
    n_genera: int = 150, *, n_per_genus: int = 2, length: int = 1200, divergence: float = 1.0, seed: int = 0
) -> dict[str, str]:
    """Draw sequences of a gene family with phyla, families and genera.

    Conserved stretches alternate with variable ones, letters change along a tree, some are lost or come in, and each
    sequence begins and ends a little elsewhere, as amplified genes do.

    Parameters
    ----------
    n_genera
        Genera, six to a family; six families are a phylum.
    n_per_genus
        Sequences of each.
    length
        Letters of the gene from which all descend.
    divergence
        Factor on all changes. At 1, sequences of one genus differ in about 2 % of their letters, those of one family in
        some 7 %, and those of different phyla in some 25 %.
    seed
        Seed of a generator of its own.

    Returns
    -------
    dict
        Sequences by their header line, ``"seq_1 Genus_1 phylum_1 family_1"``, as :func:`scdae.pp.kmers` reads them.

    Raises
    ------
    ValueError
        An argument is out of its range.

    Examples
    --------
    >>> import scdae
    >>> sequences = scdae.datasets.simulate_16s(n_genera=3, length=400, seed=0)
    >>> list(sequences)[:2]
    ['seq_1 Genus_1 phylum_1 family_1', 'seq_2 Genus_1 phylum_1 family_1']
    """
    n_genera, n_per_genus = whole_number("n_genera", n_genera, 1), whole_number("n_per_genus", n_per_genus, 1)
    length = whole_number("length", length, 300)
    if real_number("divergence", divergence, "a factor of 0 or more") < 0:
        raise ValueError(f"divergence={divergence!r}: use a factor of 0 or more.")
    rng = np.random.default_rng(check_seed(seed))
    gene = rng.integers(0, 4, length)
    rate = _rates(rng, length)
    steps = [divergence * step for step in _STEPS]
    sequences: dict[str, str] = {}
    number = 0
    for genus in range(n_genera):
        if genus % _PER**2 == 0:
            phylum = _changed(gene, rate, steps[0], rng)
        if genus % _PER == 0:
            family = _changed(*phylum, steps[1], rng)
        ancestor = _changed(*family, steps[2], rng)
        for _ in range(n_per_genus):
            letters, _rate = _changed(*ancestor, steps[3], rng)
            start, stop = rng.integers(0, _CUT, 2)
            number += 1
            about = f"seq_{number} Genus_{genus + 1} phylum_{genus // _PER**2 + 1} family_{genus // _PER + 1}"
            sequences[about] = "".join(np.array(list("ACGT"))[letters[start : len(letters) - stop]])
    return sequences


def _rates(rng: np.random.Generator, length: int) -> np.ndarray:
    """Rate of change of each letter, with mean 1: stretches are slow and fast by turns."""
    rate, slow = np.zeros(0), True
    while len(rate) < length:
        stretch = int(rng.integers(_STRETCH // 2, 3 * _STRETCH // 2))
        rate = np.concatenate([rate, np.full(stretch, _SLOW if slow else _FAST)])
        slow = not slow
    rate = rate[:length] * rng.gamma(2.0, 0.5, length)
    return rate / rate.mean()


def _changed(
    letters: np.ndarray, rate: np.ndarray, change: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a descendant: letters replaced, lost and come in, with the rates of change where they are now."""
    hit = rng.random(len(letters)) < 1 - np.exp(-change * rate)
    indel = hit & (rng.random(len(letters)) < _INDEL)
    letters = np.where(hit & ~indel, (letters + rng.integers(1, 4, len(letters))) % 4, letters)
    copies = np.where(indel, 2 * rng.integers(0, 2, len(letters)), 1)  # none, or the letter and a new one
    new = np.repeat(np.arange(len(letters)), copies)
    second = np.concatenate([[False], new[1:] == new[:-1]])
    return np.where(second, rng.integers(0, 4, len(new)), letters[new]), rate[new]
