import numpy as np
import pytest
import scipy.sparse as sp
from scipy import optimize, special, stats

from scdae.core.chimeras import placement as parts
from scdae.core.chimeras.placement import Decoder, Windows, fit_prior, misfit, place_parts

N_LATENT, SHAPE = 2, (3, 6)


@pytest.fixture(scope="module")
def made():
    """Forty sequences with known positions, and the decoder that made them."""
    rng = np.random.default_rng(0)
    loading = rng.normal(0, 1.0, (N_LATENT, *SHAPE)).astype(np.float32)
    decoder = Decoder(loading, rng.normal(0, 0.3, SHAPE).astype(np.float32))
    position = rng.normal(0, 1, (40, N_LATENT))
    share = special.softmax(logits(decoder, position), axis=2)
    counts = np.stack([[rng.multinomial(400, window) for window in one] for one in share])
    windows = Windows(sp.csr_matrix(counts.reshape(40, -1).astype(np.float32)), np.ones((40, SHAPE[0]), bool))
    return decoder, position, windows, fit_prior(decoder, windows, np.random.default_rng(1))


def logits(decoder, position):
    return np.einsum("bd,dwk->bwk", position, decoder.loading.astype(float)) + decoder.log_profile


def test_positions_are_those_of_the_highest_posterior(made):
    decoder, _, windows, prior = made
    part = np.array([1.0, 0, 1])
    found = place_parts(decoder, prior, windows, part[None])
    assert found.shape == (40, 1, N_LATENT)
    for i in range(5):
        x = windows.counts[i].toarray().reshape(SHAPE)

        def loss(position, x=x):
            share = special.log_softmax(logits(decoder, position[None])[0], axis=1)
            off = position - prior.mean
            return -parts._TEMPER * ((x * share).sum(axis=1) * part).sum() + 0.5 * off @ prior.precision @ off

        np.testing.assert_allclose(found[i, 0], optimize.minimize(loss, np.zeros(N_LATENT)).x, atol=0.02)


def test_truth_is_found_and_windows_that_are_left_out_do_not_matter(made):
    decoder, position, windows, prior = made
    found = place_parts(decoder, prior, windows, np.array([[1.0, 1, 1], [1, 0, 0]]))
    assert np.corrcoef(found[:, 0, 0], position[:, 0])[0, 1] > 0.95
    other = windows.counts.toarray()
    other[:, SHAPE[1] :] = 7
    np.testing.assert_allclose(
        place_parts(decoder, prior, Windows(sp.csr_matrix(other), windows.observed), np.array([[1.0, 0, 0]]))[:, 0],
        found[:, 1],
        atol=1e-5,
    )
    hidden = windows.observed.copy()
    hidden[:, 1:] = False
    np.testing.assert_allclose(
        place_parts(decoder, prior, Windows(windows.counts, hidden), np.ones((1, 3)))[:, 0], found[:, 1], atol=0.1
    )


def test_misfit_is_the_deviance_of_multinomial_laws(made):
    decoder, position, windows, _ = made
    value = misfit(decoder, windows, position.astype(np.float32))
    share = special.softmax(logits(decoder, position), axis=2)
    for i in range(4):
        x = windows.counts[i].toarray().reshape(SHAPE)
        best = [stats.multinomial.logpmf(row, row.sum(), row / row.sum()) for row in x]
        expected = [stats.multinomial.logpmf(row, row.sum(), p) for row, p in zip(x, share[i], strict=True)]
        assert value[i] == pytest.approx(2 * (np.sum(best) - np.sum(expected)) / x.sum(), rel=1e-3)
    nothing = Windows(windows.counts, np.zeros_like(windows.observed))
    assert np.isnan(misfit(decoder, nothing, position.astype(np.float32))).all()
