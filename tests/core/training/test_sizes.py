import numpy as np
import pytest

from scdae.core.config import Config
from scdae.core.training.sizes import most_latent, most_steps, n_axes_for, n_hidden_for, n_latent_for


@pytest.mark.parametrize(("found", "n_obs", "latent"), [(0, 100, 12), (30, 100, 12), (11, 2700, 24), (33, 20_000, 64)])
def test_the_latent_space_follows_what_is_found_again(found, n_obs, latent):
    reliability = np.repeat([0.8, 0.2], [found, 64 - found])
    assert n_latent_for(Config(), reliability, n_obs) == latent <= most_latent(Config(), n_obs)


def test_what_was_set_is_kept():
    config = Config(n_latent=7, n_hidden=33, n_components=9, effort="best")
    assert n_latent_for(config, np.ones(64), 10**6) == most_latent(config, 10**6) == 7
    assert n_hidden_for(config, 64) == 33 and n_axes_for(config, 10**6) == 9


def test_effort_has_its_price():
    steps = [most_steps(Config(effort=effort), 3000) for effort in ("fast", "default", "best")]
    widths = [n_latent_for(Config(effort=effort), np.ones(64), 3000) for effort in ("fast", "default", "best")]
    assert steps == sorted(set(steps)) and widths == sorted(widths) and widths[0] < widths[-1]
    with pytest.raises(ValueError, match="effort='most': choose one of 'fast', 'default', 'best'"):
        Config(effort="most")


def test_the_price_of_a_round_is_bounded():
    from scdae.core.training.loadings import affordable

    some = affordable(10**6, 20_000, 64)
    assert len(some) == len(np.unique(some)) == 9070 and some[-1] == 10**6 - 1
