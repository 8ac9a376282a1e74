"""What is no AnnData, and settings that there are not: one error in words from every public function."""

import inspect
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import scdae
import small
from scdae.arguments import check_adata, listed, nearest

WRONG = {
    "path": ("counts.h5ad", "is a str. Read the file first"),
    "array": (np.ones((3, 2)), "is a numpy.ndarray. Wrap counts"),
    "table": (pd.DataFrame(np.ones((3, 2))), "DataFrame. Wrap counts"),
    "nothing": (None, "is a NoneType. Functions that write into an AnnData return None"),
}
MORE = {  # what a function needs besides
    "tl.rank_genes": ("cell_type",),
    "tl.anomaly_genes": (None, ["cell_1"]),
    "tl.score_sequences": (None, None),
    "pl.embedding": (["gene_1"],),
    "pl.gene_gene": ("gene_1", "gene_2"),
    "pl.before_after": (["gene_1"],),
}


def public_functions():
    """Every public function that takes `adata` first."""
    for part in ("pp", "tl", "pl", "get"):
        module = getattr(scdae, part)
        for name in module.__all__:
            function = getattr(module, name)
            if next(iter(inspect.signature(function).parameters), None) == "adata":
                yield f"{part}.{name}", function
    for name in ("fit", "adapt", "impute", "latent", "posterior"):
        yield f"DAE.{name}", None


def test_list_of_functions_is_not_empty():
    names = [name for name, _ in public_functions()]
    assert len(names) > 20 and set(MORE) <= set(names)


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize(("name", "function"), list(public_functions()))
def test_what_is_no_anndata(name, function, kind):
    wrong, words = WRONG[kind]
    if function is None:
        model = scdae.DAE() if name == "DAE.fit" else small.fitted(likelihood="nb")
        function = getattr(model, name.removeprefix("DAE."))
    with pytest.raises(TypeError, match=r"^adata has to be an anndata\.AnnData, but .*" + words):
        function(wrong, *MORE.get(name, ()))


def test_several_data_sets():
    adata = small.structured()
    with pytest.raises(TypeError, match=r"adatas\['1'\] has to be an anndata.AnnData, but is a str"):
        scdae.pp.align([adata, "b.h5ad"])
    for one in (adata, "a.h5ad"):
        with pytest.raises(TypeError, match="adatas is one .*: pass a list"):
            scdae.pp.align(one)
    with pytest.raises(TypeError, match="reference has to be an anndata.AnnData"):
        scdae.tl.score_sequences(adata, small.fitted(likelihood="nb"), "ref.fasta")


def test_objects_that_hold_anndata_are_told_apart():
    for holder, words in (
        (SimpleNamespace(mod={"rna": 1, "atac": 2}), r"adata\.mod\[\.\.\.\] with one of 'rna', 'atac'"),
        (SimpleNamespace(tables={"cells": 1}), r"adata\.tables\[\.\.\.\] with one of 'cells'"),
    ):
        with pytest.raises(TypeError, match=words):
            check_adata(holder)


@pytest.mark.parametrize(
    "name", [name for name, f in public_functions() if f and "settings" in inspect.signature(f).parameters]
)
def test_misspelt_settings(name):
    function = dict(public_functions())[name]
    adata = small.structured()
    for wrong, right in (("n_latnt", "n_latent"), ("max_epoch", "max_epochs"), ("Layer", "layer")):
        with pytest.raises(
            TypeError, match=rf"no argument '{wrong}'\. Did you mean '{right}'\? Settings of the model: "
        ):
            function(adata, *MORE.get(name, ()), **{wrong: 3})
    with pytest.raises(TypeError, match=r"no argument 'zzzzzz'\. Settings of the model: .*n_hidden"):
        function(adata, *MORE.get(name, ()), zzzzzz=3)
    assert not set(adata.uns) - set(small.structured().uns)


def test_names_in_messages():
    assert listed([]) == "none" and listed("abcde") == "'a', 'b', 'c', 'd', 'e'"
    assert listed("abcdef").endswith("'e', ...")
    assert nearest("Donr", ["donor", 7]) == " Did you mean 'donor'?" and nearest("x", ["donor"]) == ""
