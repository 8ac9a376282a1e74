"""How large the network is, where that is left to be chosen: by what the data hold, at a price by the effort that is asked for."""

from __future__ import annotations

import numpy as np

from scdae.core.config import Config

__all__ = ["MEMBERS", "most_latent", "most_steps", "n_axes_for", "n_hidden_for", "n_latent_for"]

MEMBERS = {"fast": 1, "default": 1, "best": 4}  # networks that are averaged
_STEPS = {"fast": 200, "default": 300, "best": 1200}  # most that are chosen, unless an epoch has more
_STEPS_IF_MANY = {"fast": 300, "default": 400, "best": 1200}
_MANY = 8192  # cells that are worth more axes, and more steps
_AXES, _AXES_IF_MANY = 64, 128
_LATENT = (12, 64)  # fewest and most
_FOR_EACH = 50  # cells for each number of the latent space that is more than the fewest
_FOUND = 0.5  # correlation of an axis between molecules that it was fitted to and molecules left out, of which it is found again
_ROOM = {"fast": 1.0, "default": 2.0, "best": 2.5}  # numbers in the latent space for each axis that is found again


def most_steps(config: Config, n_obs: int) -> int:
    """Return the largest number of steps that is chosen, unless an epoch has more."""
    return (_STEPS if n_obs < _MANY else _STEPS_IF_MANY)[config.effort]


def n_axes_for(config: Config, n_obs: int) -> int:
    """Principal axes that the encoder gets."""
    if config.n_components is not None:
        return config.n_components
    return _AXES if n_obs < _MANY or config.effort == "fast" else _AXES_IF_MANY


def n_latent_for(config: Config, reliability: np.ndarray, n_obs: int) -> int:
    """Choose the width of the bottleneck: twice the number of axes that held-out molecules show, too.

    Parameters
    ----------
    config
        Settings.
    reliability
        Correlation of each axis with the molecules that it was not fitted to, (n_axes,).
    n_obs
        Number of cells.

    Examples
    --------
    >>> n_latent_for(Config(), np.repeat([0.9, 0.1], [20, 44]), 10_000), n_latent_for(Config(), np.ones(64), 300)
    (40, 12)
    """
    if config.n_latent is not None:
        return config.n_latent
    n_latent = _ROOM[config.effort] * int((reliability > _FOUND).sum())
    return int(
        np.clip(-(-n_latent // 4) * 4, _LATENT[0], most_latent(config, n_obs))
    )  # by fours: alike data need the same programs


def most_latent(config: Config, n_obs: int) -> int:
    """Return the width of the widest bottleneck that is chosen."""
    fewest, most = _LATENT
    if config.effort == "fast":
        return fewest
    return config.n_latent or int(np.clip(n_obs // _FOR_EACH // 4 * 4, fewest, most))


def n_hidden_for(config: Config, n_latent: int) -> int:
    """Choose the width of the hidden layer: 64 for a dozen latent numbers, and up to four times as many.

    Examples
    --------
    >>> n_hidden_for(Config(), 12), n_hidden_for(Config(), 20), n_hidden_for(Config(), 48)
    (64, 128, 256)
    """
    if config.n_hidden is not None:
        return config.n_hidden
    return 64 if n_latent <= 12 else 128 if n_latent <= 24 else 256
