import json

import numpy as np
import pytest

from scdae.core.config import Config


def test_defaults_are_valid_and_plain():
    values = Config().to_dict()
    assert json.loads(json.dumps(values)) == values
    assert set(values) <= set(Config.names())
    assert "max_epochs" not in values and "held_out" not in values  # left to be chosen
    assert values["noise"] == [0.1, 0.8]


def test_one_noise_level_is_a_range():
    assert Config(noise=0.3).noise == (0.3, 0.3)
    assert Config(noise=np.float32(0.25)).noise == (0.25, 0.25)
    assert Config(noise=[0.1, 0.2]).noise == (0.1, 0.2)
    assert Config(noise=2.0, corruption="gaussian").noise == (2.0, 2.0)


def test_numpy_scalars_are_settings_too():
    config = Config(
        n_latent=np.int64(5), seed=np.int32(3), learning_rate=np.float32(0.5), max_epochs=np.int64(4), batch_size=32.0
    )
    values = json.loads(json.dumps(config.to_dict()))
    assert (values["n_latent"], values["seed"], values["max_epochs"], values["batch_size"]) == (5, 3, 4, 32)
    assert Config(**{**values, "noise": tuple(values["noise"])}) == config
    assert all(type(values[name]) is int for name in ("n_latent", "seed", "max_epochs", "batch_size"))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"likelihood": "zinbb"}, "likelihood='zinbb'.*'zinb', 'nb', 'poisson'"),
        ({"corruption": "salt"}, "corruption='salt'.*'thinning', 'gaussian', 'masking'"),
        ({"n_latent": 0}, "n_latent=0"),
        ({"n_hidden": 2.5}, "n_hidden=2.5.*whole number"),
        ({"n_components": -1}, "n_components=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"learning_rate": float("inf")}, "learning_rate=inf"),
        ({"weight_decay": float("inf")}, "weight_decay=inf"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0"),
        ({"weight_decay": float("nan")}, "weight_decay=nan"),
        ({"max_epochs": 0}, "max_epochs=0"),
        ({"max_epochs": 2.5}, "max_epochs=2.5"),
        ({"held_out": 0.0}, "held_out=0.0"),
        ({"held_out": 0.5}, "held_out=0.5"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**32}, "seed=4294967296"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"seed": True}, "seed=True"),
        ({"noise": 1.0}, "noise"),
        ({"noise": (0.8, 0.1)}, "noise"),
        ({"noise": 0}, "noise"),
        ({"noise": (0.1, 0.2, 0.3)}, "noise"),
        ({"noise": (-0.1, 0.2)}, "noise"),
        ({"noise": (0.1, float("inf")), "corruption": "gaussian"}, "noise"),
    ],
)
def test_settings_out_of_range_are_named_with_their_value(setting, words):
    with pytest.raises(ValueError, match=words):
        Config(**setting)
