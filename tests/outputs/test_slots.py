import warnings

import anndata as ad
import numpy as np
import pytest

import scdae
import small
from scdae.arguments.names import check_name
from scdae.cli.pages.plan import plan_impute
from scdae.outputs.slots import check_free, writing_to

NAMES = {"layers": ("mine",), "var": ("mine_gain",)}


def table():
    return ad.AnnData(np.ones((3, 2), np.float32))


def test_free_names_pass():
    check_free(table(), NAMES, "mine", "scdae.f")


def test_taken_names_are_an_error_unless_the_function_wrote_them():
    adata = table()
    adata.var["mine_gain"] = 1.0
    with pytest.raises(
        ValueError, match=r"adata\.var\['mine_gain'\] is there already.*another key=, or overwrite=True"
    ):
        check_free(adata, NAMES, "mine", "scdae.f", argument="key")
    check_free(adata, NAMES, "mine", "scdae.f", overwrite=True)
    adata.uns["mine"] = {"written_by": "scdae.g"}
    with pytest.raises(ValueError, match="not written by scdae.f"):
        check_free(adata, NAMES, "mine", "scdae.f")
    adata.uns["mine"] = {"written_by": "scdae.f"}
    check_free(adata, NAMES, "mine", "scdae.f")


@pytest.mark.parametrize("name", ["", "a/b", 3, None])
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match="key_added="):
        check_name(name, "key_added")


def test_writing_to_a_view_is_quiet():
    view = table()[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with writing_to(view):
            view.obs["a"] = 1
    assert not view.is_view


@pytest.mark.parametrize("name", [".", "..", "a\0b"])
def test_parts_of_a_path_are_no_names(name):
    with pytest.raises(ValueError, match=r"key_added=.*use a name without '/', not empty, '\.' or '\.\.'"):
        check_name(name, "key_added")


def test_names_are_short_enough_for_folders():
    check_name("ä" * 100, "key_added")
    with pytest.raises(ValueError, match=r"key_added='ä{20}'...: use a name of at most 200 bytes, not 202"):
        check_name("ä" * 101, "key_added")


def test_names_in_the_data_that_no_file_can_have_are_said_before(log):
    adata = table()
    check_free(adata, NAMES, "mine", "scdae.f")
    assert not log.records
    adata.obs["lane/run"] = 1
    adata.var[0] = 1.0
    adata.uns["."] = {}
    check_free(adata, NAMES, "mine", "scdae.f")
    assert "3 name(s) in adata cannot be written" in log.text
    assert "obs['lane/run'], var[0], uns['.']" in log.text


@pytest.mark.parametrize("tool", ["evaluate", "noise_sweep", "tune", "rank_genes", "sample", "anomaly_score", "purify"])
def test_every_tool_looks_at_its_name_first(tool):
    adata = small.structured()
    argument = "key" if tool == "evaluate" else "key_added"
    more = ("cell_type",) if tool == "rank_genes" else ()
    with pytest.raises(ValueError, match=f"{argument}='a/b': use a name without '/'"):
        getattr(scdae.tl, tool)(adata, *more, **{argument: "a/b"})


def test_batches_that_fall_on_one_name():
    adata = small.structured()
    adata.obs["lane"] = adata.obs["batch"].cat.rename_categories(["a/b", "a_b"])
    for run in (scdae.pp.impute, plan_impute):
        with pytest.raises(ValueError, match="transform_batch='a/b': .* has that of batch 'a_b'. Rename one"):
            run(adata, batch_key="lane", transform_batch="a/b")
    scdae.pp.impute(adata, batch_key="lane", transform_batch="a_b", max_epochs=1)
    assert "scdae_as_a_b" in adata.layers
    adata.obs["lane"] = adata.obs["batch"].cat.rename_categories(["a/b", "c"])
    scdae.pp.impute(adata, batch_key="lane", transform_batch="a/b", max_epochs=1, key_added="s")
    assert "s_as_a_b" in adata.layers
