"""Sequences made from real 16S rRNA genes whose truth is known: chimeras, reads with errors, and what is no 16S."""

from __future__ import annotations

import edlib
import numpy as np

__all__ = ["BINS", "chimeras", "divergence", "markov", "shuffled", "with_errors", "with_expansions"]

BINS = [(0, 3), (3, 5), (5, 10), (10, 15), (15, 20), (20, 100)]  # percent of letters in which the parents differ
_MARGIN = 40  # letters at both ends that an alignment leaves out: genes begin and end at different places


def divergence(one: str, other: str) -> float:
    """Edits in percent of the aligned letters; `one` without its ends is laid into `other`."""
    core = one[_MARGIN:-_MARGIN]
    return 100 * edlib.align(core, other, mode="HW", task="distance")["editDistance"] / len(core)


def _opposite(one: str, other: str, spot: int) -> int:
    """Letter of `other` that lies opposite `spot` of `one` in their alignment."""
    core = one[_MARGIN:-_MARGIN]
    found = edlib.align(core, other, mode="HW", task="path")
    here, there = 0, found["locations"][0][0]
    number = ""
    for sign in found["cigar"]:
        if sign.isdigit():
            number += sign
            continue
        n, number = int(number), ""
        if sign in "=XI" and here + n > spot - _MARGIN:
            return there + (spot - _MARGIN - here if sign != "I" else 0)
        here += n if sign in "=XI" else 0
        there += n if sign in "=XD" else 0
    return there


def chimeras(
    sequences: list[str], number: int, rng: np.random.Generator, *, similarity: np.ndarray
) -> list[tuple[str, int, int, int, float, float]]:
    """Chimeras of two parents at a random breakpoint within the middle four fifths, up to `number` for each bin.

    Parameters
    ----------
    sequences
        The parents.
    similarity
        (n, n): any measure of how alike they are. Pairs are drawn evenly over its ranks, and in its upper tail.

    Returns
    -------
    list
        Sequence, its two parents, breakpoint (letters from the left parent), the parents' divergence in percent, and
        the bin.
    """
    n = len(sequences)
    upper = np.triu_indices(n, 1)
    order = np.argsort(-similarity[upper])
    upper = upper[0][order], upper[1][order]
    top = np.unique(np.geomspace(1, len(order), 40 * number).astype(int) - 1)
    tried = np.concatenate([top, rng.choice(len(order), min(len(order), 10 * number), replace=False)])
    made: list[list] = [[] for _ in BINS]
    seen = set()
    for at in rng.permutation(tried):
        pair = (int(upper[0][at]), int(upper[1][at]))
        if pair in seen or all(len(of_bin) >= number for of_bin in made):
            continue
        seen.add(pair)
        left, right = pair if rng.random() < 0.5 else pair[::-1]
        apart = divergence(sequences[left], sequences[right])
        which = next((i for i, (low, high) in enumerate(BINS) if low <= apart < high), None)
        if which is None or apart == 0 or len(made[which]) >= number:
            continue
        spot = int(rng.uniform(0.1, 0.9) * len(sequences[left]))
        there = _opposite(sequences[left], sequences[right], spot)
        sequence = sequences[left][:spot] + sequences[right][there:]
        made[which].append((sequence, left, right, spot, apart, which))
    return [one for of_bin in made for one in of_bin]


def shuffled(sequence: str, rng: np.random.Generator) -> str:
    """The letters in another order, each pair of neighbors as often as before.

    The letters that follow each letter are a list; a random Eulerian walk uses each list up. The last step from each
    letter is drawn as a random tree towards the last letter of all, so that the walk does not end early (Altschul and
    Erickson, 1985).
    """
    follow: dict[str, list[str]] = {}
    for here, there in zip(sequence, sequence[1:], strict=False):
        follow.setdefault(here, []).append(there)
    end = sequence[-1]
    while True:
        last = {here: str(rng.choice(there)) for here, there in follow.items() if here != end}
        if all(_leads_to(here, end, last) for here in last):
            break
    walks = {}
    for here, there in follow.items():
        rest = list(there)
        if here in last:
            rest.remove(last[here])
        rng.shuffle(rest)
        walks[here] = rest + ([last[here]] if here in last else [])
    out, used = [sequence[0]], dict.fromkeys(walks, 0)
    while len(out) < len(sequence):
        here = out[-1]
        out.append(walks[here][used[here]])
        used[here] += 1
    return "".join(out)


def _leads_to(here: str, end: str, last: dict[str, str]) -> bool:
    for _ in range(len(last) + 1):
        if here == end:
            return True
        here = last[here]
    return False


def markov(sequences: list[str], length: int, rng: np.random.Generator, order: int = 3) -> str:
    """Random sequence whose words of `order` + 1 letters are as frequent as in these: a stand-in for a genome."""
    counted: dict[str, np.ndarray] = {}
    for sequence in sequences:
        for i in range(len(sequence) - order):
            counted.setdefault(sequence[i : i + order], np.zeros(4))["ACGT".index(sequence[i + order])] += 1
    out = sequences[0][:order]
    while len(out) < length:
        share = counted.get(out[-order:], np.ones(4))
        out += "ACGT"[rng.choice(4, p=share / share.sum())]
    return out


def with_errors(sequence: str, rate: float, rng: np.random.Generator) -> str:
    """Errors at this rate: eight of ten are substitutions, one an inserted letter, one a lost one."""
    out = []
    for letter in sequence:
        if rng.random() >= rate:
            out.append(letter)
            continue
        kind = rng.random()
        if kind < 0.8:
            out.append(str(rng.choice([other for other in "ACGT" if other != letter])))
        elif kind < 0.9:
            out += [letter, "ACGT"[rng.integers(4)]]
    return "".join(out)


def with_expansions(sequence: str, rng: np.random.Generator, rate: float = 0.25, number: int = 8) -> str:
    """A stand-in for an 18S gene: a 16S gene that a quarter of the letters has changed in, with expansion segments.

    Eukaryotic genes keep the core of the bacterial one, differ from it in a quarter to a third of its letters, and have
    some 400 letters more, in expansion segments. There is no 18S gene in the data, so the core is a bacterial gene that
    diverged by stretches: one letter in ten is kept for sure, in runs, as the core of the ribosome is.
    """
    kept = np.zeros(len(sequence), bool)
    for start in rng.integers(0, len(sequence) - 20, len(sequence) // 200):
        kept[start : start + 20] = True
    letters = [
        letter if safe or rng.random() > rate else str(rng.choice([other for other in "ACGT" if other != letter]))
        for letter, safe in zip(sequence, kept, strict=True)
    ]
    for spot in sorted(rng.integers(100, len(letters) - 100, number), reverse=True):
        letters[spot:spot] = list("".join(rng.choice(list("ACGT"), 50)))
    return "".join(letters)
