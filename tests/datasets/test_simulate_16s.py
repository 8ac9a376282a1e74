import numpy as np
import pytest

from scdae.datasets import simulate_16s


def apart(one, other):
    """Share of the words of eight letters that they do not have in common."""
    one, other = ({text[i : i + 8] for i in range(len(text) - 7)} for text in (one, other))
    return 1 - len(one & other) / len(one | other)


def test_relatives_are_alike_by_rank():
    sequences = simulate_16s(n_genera=72, length=900, seed=1)
    texts = list(sequences.values())
    assert len(texts) == 144 and set("".join(texts)) == set("ACGT")
    ranks = [np.mean([apart(texts[i], texts[i + step]) for i in range(0, 70, 2)]) for step in (1, 2, 12, 72)]
    assert np.all(np.diff(ranks) > 0.02)
    assert ranks[0] < 0.35


def test_the_seed_says_all():
    once, again, other = (simulate_16s(n_genera=2, seed=seed) for seed in (3, 3, 4))
    assert once == again != other
    still = list(simulate_16s(n_genera=2, divergence=0, length=500).values())
    assert all(one[30:-30] in still[0] for one in still), "without change only the ends differ"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"n_genera": 0}, "n_genera=0"), ({"length": 10}, "length=10"), ({"divergence": -1}, "divergence=-1")],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        simulate_16s(**arguments)
