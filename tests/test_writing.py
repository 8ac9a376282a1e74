import warnings

import anndata as ad
import numpy as np
import pytest

from scdae.writing import check_free, check_name, writing_to

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
