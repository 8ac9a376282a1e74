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
