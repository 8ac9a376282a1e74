import numpy as np
import pytest

import scdae


@pytest.mark.parametrize(
    ("module", "name", "words"),
    [
        (scdae, "impute", "module 'scdae' has no attribute 'impute'. Did you mean 'scdae.pp.impute'?"),
        (scdae.pp, "evaluate", "Did you mean 'scdae.tl.evaluate'?"),
        (scdae.tl, "rank_gene", "Did you mean 'scdae.tl.rank_genes'?"),
        (scdae.pl, "gene_genes", "Did you mean 'scdae.pl.gene_gene'?"),
        (scdae, "xyzzy", "It has DAE, datasets, get"),
    ],
)
def test_functions_that_are_not_there(module, name, words):
    with pytest.raises(AttributeError) as error:
        getattr(module, name)
    assert words in str(error.value)


def test_what_tools_ask_for_is_just_not_there():
    assert not hasattr(scdae.pp, "__wrapped__") and not hasattr(scdae, "_repr_html_")


@pytest.mark.parametrize("seed", [None, "one", 0.5, -1])
def test_seeds_that_are_none(seed):
    adata = scdae.datasets.simulate(60, 40)
    for function in (scdae.pp.impute, scdae.tl.evaluate, scdae.tl.noise_sweep, scdae.tl.anomaly_score):
        with pytest.raises(ValueError, match=r"seed=.*: use a whole number"):
            function(adata, seed=seed)


def whole(adata):
    return adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
def test_a_generator_as_seed_is_one_draw(make):
    first, second = scdae.datasets.simulate(60, 40, seed=make(3)), scdae.datasets.simulate(60, 40, seed=make(3))
    np.testing.assert_array_equal(whole(first), whole(second))
    random = make(3)
    scdae.datasets.simulate(60, 40, seed=random)
    again = scdae.datasets.simulate(60, 40, seed=random)
    assert (whole(first) != whole(again)).any()  # the generator has moved on
    reference = make(3)
    drawn = reference.integers(2**31) if make is np.random.default_rng else reference.randint(2**31, dtype=np.int64)
    model = scdae.DAE(seed=make(3))
    assert model.config.seed == drawn
    assert type(model.config.seed) is int


def test_the_seed_that_was_drawn_is_recorded_and_gives_the_same_fit():
    adata, other = scdae.datasets.simulate(60, 40), scdae.datasets.simulate(60, 40)
    scdae.pp.impute(adata, seed=np.random.default_rng(1), max_epochs=2)
    seed = adata.uns["scdae"]["settings"]["seed"]
    scdae.pp.impute(other, seed=seed, max_epochs=2)
    np.testing.assert_array_equal(adata.layers["scdae"], other.layers["scdae"])


def test_numpy_integers_are_seeds():
    assert scdae.DAE(seed=np.int64(5)).config.seed == 5
    np.testing.assert_array_equal(
        whole(scdae.datasets.simulate(60, 40, seed=np.uint32(4))), whole(scdae.datasets.simulate(60, 40, seed=4))
    )


def test_functions_take_a_generator():
    adata = scdae.datasets.simulate(60, 40)
    random = np.random.default_rng(0)
    shown, rest = scdae.pp.thin(adata, 0.5, seed=random)
    assert shown.X.sum() + rest.X.sum() == adata.X.sum()
    scdae.tl.evaluate(adata, seed=random, max_epochs=2)
    next(iter(scdae.tl.sample(adata, n=1, seed=random, max_epochs=2)))
    assert isinstance(random, np.random.Generator)
