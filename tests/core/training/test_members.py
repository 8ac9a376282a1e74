import numpy as np
from flax import nnx

from scdae.core.data.conditions import no_conditions
from scdae.core.network.autoencoder import Autoencoder
from scdae.core.training.members import average


def member(seed, profile):
    model = Autoencoder(profile, n_inputs=4, n_hidden=6, n_latent=3, seed=seed)
    model.loading[...] = np.random.default_rng(seed).normal(size=(3, len(profile)))
    return nnx.split(model, nnx.Param)


def test_logits_are_averaged():
    profile = np.full(5, 0.2)
    graphs, members = zip(*(member(seed, profile) for seed in range(3)), strict=True)
    inputs, nothing = np.random.default_rng(9).normal(size=(7, 4)).astype(np.float32), no_conditions(7)
    each = [nnx.merge(g, p) for g, p in zip(graphs, members, strict=True)]
    wanted = np.mean([model.decode(model.encode(inputs, nothing), nothing) for model in each], axis=0)
    one = nnx.merge(*average(list(members), profile, 0))
    np.testing.assert_allclose(one.decode(one.encode(inputs, nothing), nothing), wanted, atol=1e-5)
    assert one.encode(inputs, nothing).shape == (7, 9)
