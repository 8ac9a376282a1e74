"""What is no AnnData, and settings that there are not: one error in words from every public function."""

import inspect
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scdae
import small
from scdae.arguments.objects import check_adata, listed, nearest

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
    "pl.dotplot": (["gene_1"], "cell_type"),
    "tl.report": ("report.html",),
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


def test_misspelt_arguments_of_functions_without_settings():
    adata, model = small.structured(), scdae.DAE()
    for call, words in (
        (
            lambda: scdae.DAE(n_latnt=3),
            r"DAE\(\) has no argument 'n_latnt'\. Did you mean 'n_latent'\? Arguments: likelihood, ",
        ),
        (lambda: scdae.DAE(zzzzzz=3), r"DAE\(\) has no argument 'zzzzzz'\. Arguments: "),
        (
            lambda: model.fit(adata, bach_key="batch"),
            r"DAE.fit\(\) has no argument 'bach_key'\. Did you mean 'batch_key'",
        ),
        (
            lambda: model.fit(adata, max_epochs=3),
            r"'max_epochs'\. It is a setting of the model: scdae.DAE\(max_epochs=\.\.\.\)",
        ),
        (lambda: model.fit(adata, use_raw=True), r"'use_raw'\. The counts in .raw .*adata.raw.to_adata\(\)"),
        (lambda: scdae.pp.impute(adata, use_raw=True), r"'use_raw'\. The counts in .raw .*adata.raw.to_adata\(\)"),
        (lambda: model.impute(adata, treshold=0.5), "Did you mean 'threshold'"),
        (lambda: model.latent(adata, layr="x"), "Did you mean 'layer'"),
        (lambda: model.posterior(adata, gene="x"), "Did you mean 'genes'"),
        (lambda: scdae.pp.thin(adata, fractn=0.5), "Did you mean 'fraction'"),
        (lambda: scdae.pp.align([adata], layrs=[]), "Did you mean 'layers'"),
    ):
        with pytest.raises(TypeError, match=words):
            call()
    assert scdae.DAE(seed=3).config.seed == 3 and "n_latent" in inspect.signature(scdae.DAE).parameters


def test_layers_that_others_would_name():
    adata = small.structured()
    for name, words in (("raw", "There is no .raw either"), ("X", "Leave layer out for adata.X")):
        with pytest.raises(ValueError, match=f"layer='{name}' does not exist. Layers here: .*{words}"):
            scdae.pp.impute(adata, layer=name)
    adata.raw = adata
    for call in (
        lambda: scdae.pp.impute(adata, layer="raw"),
        lambda: scdae.DAE().fit(adata, layer="raw"),
        lambda: scdae.tl.purify(adata, small.fitted(likelihood="nb"), layer="raw", input_scale="log1p", depth=1000),
    ):
        with pytest.raises(
            ValueError, match=r"The counts in .raw have genes of their own: pass adata.raw.to_adata\(\)"
        ):
            call()


def test_a_part_of_what_is_on_disk_is_refused_before_training(tmp_path):
    small.structured().write_h5ad(tmp_path / "a.h5ad")
    part = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")[:]
    for call in (
        lambda: scdae.pp.impute(part),
        lambda: scdae.tl.evaluate(part),
        lambda: scdae.tl.purify(part, small.fitted(likelihood="nb")),
        lambda: scdae.tl.noise_sweep(part),
    ):
        with pytest.raises(ValueError, match=r"part of an object that is on disk .*adata.to_memory\(\)"):
            call()
    model = small.fitted(likelihood="nb")
    assert "scdae" in scdae.pp.impute(part, model=model, copy=True).layers
    part.file.close()


def test_names_in_messages():
    assert listed([]) == "none" and listed("abcde") == "'a', 'b', 'c', 'd', 'e'"
    assert listed("abcdef").endswith("'e', ...")
    assert nearest("Donr", ["donor", 7]) == " Did you mean 'donor'?" and nearest("x", ["donor"]) == ""


def test_an_anndata_where_an_array_is_wanted_is_refused_at_once(monkeypatch):
    """NumPy looks into it for seconds, or minutes where it is large."""
    adata, model = small.structured(), small.fitted(likelihood="nb")
    monkeypatch.setattr(ad.AnnData, "__getitem__", lambda *_: pytest.fail("NumPy looks into it"))
    for call in (
        lambda: scdae.pp.impute(adata, mask=adata),
        lambda: scdae.pp.impute(adata, quantiles=adata),
        lambda: scdae.pp.impute(adata, seed=adata),
        lambda: scdae.pp.impute(adata, n_latent=adata),
        lambda: scdae.pp.thin(adata, adata),
        lambda: model.impute(adata, output="log1p", depth=adata),
        lambda: model.impute(adata, genes=adata),
        lambda: model.posterior(adata, cells=adata),
        lambda: scdae.tl.noise_sweep(adata, adata),
        lambda: scdae.tl.anomaly_genes(adata, model, adata),
        lambda: scdae.pl.before_after(adata, adata),
        lambda: scdae.datasets.simulate(adata),
        lambda: scdae.DAE(noise=adata),
    ):
        with pytest.raises(TypeError, match=r"is an AnnData, and .*\(\) takes none there\. Pass a part of it"):
            call()
    with pytest.raises(TypeError, match="model must be a fitted scdae.DAE"):
        scdae.tl.purify(adata, adata)
