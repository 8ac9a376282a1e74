"""Every public function that takes an AnnData, with the same data in every container and with every oddity of names.

The answer is that for the plain object, or an error in words. A new function without an entry in CALLS fails a test.
"""

import functools
import pickle
import re
import tempfile
import warnings
from pathlib import Path

import anndata as ad
import dask.array as da
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scdae
import small
from scdae.model.read_outs import ReadOuts

mpl.use("Agg")
pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]

GENES = ["gene_9", "gene_3"]
IN_WORDS = (ValueError, TypeError, KeyError)


@functools.cache
def _model():
    return small.fitted(batch_key="batch", likelihood="nb", max_epochs=7)


@functools.cache
def _plain():
    """Counts, and what the functions write that others read; pickled, so that each test has its own."""
    adata = small.structured()
    adata.obs["normal"] = np.arange(adata.n_obs) % 2 == 0
    adata.layers["observed"] = np.ones(adata.shape, bool)
    adata.layers["observed"][:40, :5] = False
    scdae.pp.impute(adata, model=_model())
    scdae.tl.rank_genes(adata, "cell_type", model=_model())
    scdae.tl.evaluate(adata, groupby="cell_type", max_epochs=1, batch_size=64)
    scdae.tl.noise_sweep(adata, (0.3,), max_epochs=1, batch_size=64)
    adata.uns["scdae"]["report"]["history"] = {name: np.arange(3.0) for name in ("step", "loss", "heldout_loglik")}
    adata.uns["scdae_tuning"] = {
        **{name: np.zeros(2) for name in ("log_likelihood", "gain", "gain_se")},
        "trials": {"n_latent": np.array(["8", "12"])},
    }
    return pickle.dumps(adata)


def plain():
    return pickle.loads(_plain())


# Containers: from the plain object, and a folder for files


def _x(form):
    def change(adata, folder):
        adata.X = form(adata.X)
        return adata

    return change


def _stored(form, end="h5ad"):
    def change(adata, folder):
        adata.X = form(adata.X)
        path = folder / f"a.{end}"
        (adata.write_h5ad if end == "h5ad" else adata.write_zarr)(path)
        return path

    return change


def _dense(x):
    return x.toarray()


def _dask(adata, folder, form=None):
    def lazy(x):
        x = da.from_array(x.toarray() if sp.issparse(x) else np.asarray(x), chunks=(40, 25))
        return x if form is None else x.map_blocks(form)

    adata.X = lazy(adata.X)
    for name in ("scdae", "truth", "observed"):
        adata.layers[name] = (
            lazy(adata.layers[name]) if name != "observed" else da.from_array(adata.layers[name], chunks=40)
        )
    return adata


def _view(adata, folder=None):
    """The first half of an object that has each cell twice, genes turned around twice."""
    twice = adata[np.tile(np.arange(adata.n_obs), 2)].copy()
    twice.obs_names = [f"{name}{'' if i < adata.n_obs else '_2'}" for i, name in enumerate(twice.obs_names)]
    return twice[: adata.n_obs]


def _read_lazy(adata, folder):
    pytest.importorskip("xarray")
    return ad.experimental.read_lazy(_stored(lambda x: x)(adata, folder))


def _joined(adata, folder):
    for name, part in (("a", adata[:70]), ("b", adata[70:])):
        ad.AnnData(part.X, part.obs, part.var[[]]).write_h5ad(folder / f"{name}.h5ad")
    joint = scdae.pp.join_files(folder / "*.h5ad")
    joint.var, joint.uns = adata.var, {**joint.uns, **adata.uns}
    for place in ("layers", "obsm"):
        for name, values in getattr(adata, place).items():
            if name is not None:
                getattr(joint, place)[name] = values
    return joint


def _dataset(adata, folder):
    import zarr

    path = _stored(lambda x: x, "zarr")(adata, folder)
    adata.X = ad.io.sparse_dataset(zarr.open_group(path, mode="r")["X"])
    return adata


def _categories(adata, folder):
    for column in ("batch", "cell_type"):
        values = adata.obs[column].astype(str)
        adata.obs[column] = pd.Categorical(values, categories=[*sorted(set(values)), "nobody"])
    return adata


def _nullable(adata, folder):
    for column in ("batch", "cell_type"):
        adata.obs[column] = pd.array(adata.obs[column].astype(str), dtype="string")
    adata.obs["normal"] = pd.array(adata.obs["normal"], dtype="boolean")
    adata.obs_names = pd.Index(pd.array(list(adata.obs_names), dtype="string"))
    adata.var_names = pd.Index(pd.array(list(adata.var_names), dtype="string"))
    return adata


def _named(cells=None, genes=None):
    def change(adata, folder):
        adata.obs_names = adata.obs_names if cells is None else cells(adata.n_obs)
        adata.var_names = adata.var_names if genes is None else genes(list(adata.var_names))
        return adata

    return change


CONTAINERS = {
    "c_order": _x(_dense),
    "f_order": _x(lambda x: np.asfortranarray(x.toarray())),
    "int16": _x(lambda x: x.toarray().astype(np.int16)),
    "csc": _x(sp.csc_matrix),
    "csr_array": _x(sp.csr_array),
    "csc_array": _x(sp.csc_array),
    "view": _view,
    "view_of_csc": lambda adata, folder: _view(_x(sp.csc_matrix)(adata, folder)),
    "backed": lambda adata, folder: ad.read_h5ad(_stored(lambda x: x)(adata, folder), backed="r"),
    "backed_csc": lambda adata, folder: ad.read_h5ad(_stored(sp.csc_matrix)(adata, folder), backed="r"),
    "backed_dense": lambda adata, folder: ad.read_h5ad(_stored(_dense)(adata, folder), backed="r"),
    "part_of_backed": lambda adata, folder: ad.read_h5ad(_stored(lambda x: x)(_view(adata).copy(), folder), backed="r")[
        :
    ],
    "dataset": _dataset,
    "dask": _dask,
    "dask_csr": functools.partial(_dask, form=sp.csr_matrix),
    "part_of_dask": lambda adata, folder: _view(_dask(adata, folder)),
    "part_of_dask_csr": lambda adata, folder: _view(_dask(adata, folder, sp.csr_matrix)),
    "read_lazy": _read_lazy,
    "part_of_read_lazy": lambda adata, folder: _read_lazy(adata, folder)[np.arange(adata.n_obs)],
    "joined": _joined,
    "part_of_joined": lambda adata, folder: _joined(adata, folder)[np.arange(adata.n_obs)],
    "categories": _categories,
    "nullable": _nullable,
    "integer_names": _named(cells=lambda n: [str(i) for i in range(n)]),
    "repeated_cells": _named(cells=lambda n: ["cell"] * n),
    "repeated_genes": _named(genes=lambda names: [*names[:-1], names[0]]),
}


# Functions: from an object to arrays


def _impute(adata, **options):
    scdae.pp.impute(adata, model=_model(), key_added="new", **options)
    return [adata.layers["new"], adata.obsm["X_new"]]


def _read_by_fit(call):
    """What a fit would be given, without training."""

    def read(adata):
        found = []

        def fit_counts(model, counts, covariates, conditions, *arguments, **options):
            found.extend([counts.matrix, np.asarray(conditions.levels)])
            return _model()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("scdae.DAE._fit_counts", fit_counts)
            call(adata)
        return found

    return read


def _written(call, *names):
    """Columns of obs that a call writes."""

    def write(adata):
        call(adata)
        return [np.asarray(adata.obs[name], dtype=np.float64) for name in names]

    return write


def _ranked(adata):
    scdae.tl.rank_genes(adata, "cell_type", model=_model(), key_added="again")
    return [scdae.get.rank_genes(adata, key="again")]


def _purified(adata):
    scdae.tl.purify(adata, _model(), key_added="purified")
    return [adata.layers["purified"]]


def _drawn(axes):
    """What was drawn."""
    found = []
    for axis in np.atleast_1d(np.asarray(axes, dtype=object)):
        found += [image.get_array() for image in axis.images]
        found += [part.get_offsets() for part in axis.collections]
        found += [] if axis.images else [line.get_ydata() for line in axis.lines]
    plt.close("all")
    return found


def _dots(axes):
    """Sizes and colors of a dot plot."""
    drawn = axes["mainplot_ax"].collections[-1]
    plt.close("all")
    return [drawn.get_sizes(), drawn.get_facecolor()]


def _pictures(adata):
    """Titles of the plots of a report, by their length: what they draw is that of the functions of `pl`.

    Their pixels are not looked at, so Matplotlib is not asked for any; tests/tl/test_report.py has them.
    """
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(mpl.figure.Figure, "savefig", lambda self, file, **options: file.write(b"pixels"))
        scdae.tl.report(adata, f"{folder}/r.html")
        words = re.findall(r'alt="([^":]*)', Path(folder, "r.html").read_text())
    return [np.array([len(one) for one in words])]


def _numbers(table):
    return [table.select_dtypes("number").to_numpy()]


def _model_behind(adata):
    scdae.pp.impute(adata, model=_model(), key_added="again", overwrite=True)
    return scdae.get.model(adata, "again")


CALLS = {
    "pp.align": lambda a: [scdae.pp.align({"one": a, "two": a}, layers=[]).X],
    "pp.impute": _impute,
    "pp.impute, mask": lambda a: _impute(a, mask="observed"),
    "pp.impute, copy": lambda a: [scdae.pp.impute(a, model=_model(), key_added="new", copy=True).layers["new"]],
    "pp.keep_genes": lambda a: [np.array(scdae.pp.keep_genes(a).shape)],
    "pp.thin": lambda a: [part.X for part in scdae.pp.thin(a, 0.5)],
    "tl.anomaly_genes": lambda a: _numbers(scdae.tl.anomaly_genes(a, _model(), [3, 5], normal="normal")),
    "tl.anomaly_score": _written(
        lambda a: scdae.tl.anomaly_score(a, _model(), normal="normal"), "anomaly", "anomaly_fdr"
    ),
    "tl.doublet_score": _written(lambda a: scdae.tl.doublet_score(a, _model()), "doublet"),
    "tl.purify": _purified,
    "tl.rank_genes": _ranked,
    "tl.report": _pictures,
    "tl.sample": lambda a: list(scdae.tl.sample(a, _model(), n=1, genes=GENES, cells=[5, 2])),
    "pl.before_after": lambda a: _drawn(scdae.pl.before_after(a, GENES, groupby="batch", truth="truth", show=False)),
    "pl.calibration": lambda a: _drawn(scdae.pl.calibration(a, show=False)),
    "pl.dotplot": lambda a: _dots(scdae.pl.dotplot(a, GENES, "cell_type", show=False)),
    "pl.embedding": lambda a: _drawn(scdae.pl.embedding(a, GENES, basis="X_scdae", show=False)),
    "pl.fidelity": lambda a: _drawn(scdae.pl.fidelity(a, show=False)),
    "pl.gain": lambda a: _drawn(scdae.pl.gain(a, show=False)),
    "pl.gene_gene": lambda a: _drawn(scdae.pl.gene_gene(a, *GENES, color="batch", show=False)),
    "pl.history": lambda a: _drawn(scdae.pl.history(a, show=False)),
    "pl.noise_sweep": lambda a: _drawn(scdae.pl.noise_sweep(a, show=False)),
    "get.evaluation": lambda a: [scdae.get.evaluation(a)],
    "get.fidelity": lambda a: _numbers(scdae.get.fidelity(a)) + _numbers(scdae.get.fidelity(a, markers=True)),
    "get.genes": lambda a: [scdae.get.genes(a)],
    "get.imputed": lambda a: [scdae.get.imputed(a), scdae.get.imputed(a, genes=GENES)],
    "get.model": lambda a: [_model_behind(a).latent(a)],
    "get.rank_genes": lambda a: [scdae.get.rank_genes(a)],
    "get.report": lambda a: [pd.to_numeric(scdae.get.report(a).sort_index(), errors="coerce")],
    "get.results": lambda a: [scdae.get.results(a).layers["scdae"], scdae.get.results(a, genes=GENES).layers["scdae"]],
    "get.tuning": lambda a: _numbers(scdae.get.tuning(a)),
    "DAE.fit": _read_by_fit(lambda a: scdae.DAE().fit(a, batch_key="batch", covariates=["cell_type"], mask="observed")),
    "DAE.adapt": _read_by_fit(lambda a: _model().adapt(a)),
    "DAE.impute": lambda a: [_model().impute(a, genes=GENES), _model().impute(a, lazy=True, threshold=0.5)],
    "DAE.latent": lambda a: [_model().latent(a)],
    "DAE.posterior": lambda a: [_model().posterior(a, genes=GENES, cells=[5, 2]).mean],
}
SLOW = {  # they train; one container that is hard to read will do
    "tl.evaluate": _written(
        lambda a: scdae.tl.evaluate(a, key="new", batch_key="batch", max_epochs=1, batch_size=64), "new_skill"
    ),
}
ELSEWHERE = {  # no AnnData, or one that these functions make themselves
    *("pp.join_files", "pp.kmers", "pp.read_fasta", "tl.score_sequences", "DAE.save", "DAE.load"),
    *("DAE.fitted_model", "DAE.fitted_outcome"),
    *("tl.noise_sweep", "tl.tune"),  # read as tl.evaluate does (tl/_crossval.py)
    "tl.impute_genes",  # two of them: tests/tl/test_impute_genes.py
}


def test_every_public_function_has_its_entry():
    there = {f"{part}.{name}" for part in ("pp", "tl", "pl", "get") for name in getattr(scdae, part).__all__}
    there |= {
        f"DAE.{name}"
        for name, value in (vars(ReadOuts) | vars(scdae.DAE)).items()
        if callable(value) and not name.startswith("_")
    }
    named = {name.partition(",")[0] for name in (*CALLS, *SLOW)} | ELSEWHERE
    assert there == named, "give the function an entry in CALLS"


def _plain_arrays(values):
    found = []
    for value in values:
        value = value.compute() if hasattr(value, "compute") else value
        value = value.toarray() if sp.issparse(value) else np.ma.filled(np.ma.asarray(value), np.nan)
        found.append(value.astype(np.float64))
    return found


@functools.cache
def _expected(name):
    return _plain_arrays({**CALLS, **SLOW}[name](plain()))


def _fault(name, adata, right=()):
    """What is wrong with the answer; None for the right one, and for an error in words that are among the right ones."""
    try:
        found = _plain_arrays({**CALLS, **SLOW}[name](adata))
    except Exception as error:  # noqa: BLE001  (whatever it is, it is told)
        in_words = isinstance(error, IN_WORDS) and len(str(error)) > 20 and "object has no attribute" not in str(error)
        return None if in_words and any(word in str(error) for word in right) else f"{type(error).__name__}: {error}"
    for one, two in zip(found, _expected(name), strict=True):
        if one.shape != two.shape or not np.allclose(one, two, rtol=1e-3, atol=1e-4, equal_nan=True):
            return f"another answer: {one} in place of {two}"
    return None


REFUSED = {  # with these words
    "repeated_genes": ("unique", "repeat"),
    "part_of_backed": ("backed",),  # anndata's own: nothing can be written to a part of a file
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_same_answer_or_an_error_in_words(container, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata = CONTAINERS[container](plain(), tmp_path)
        faults = {name: _fault(name, adata, REFUSED.get(container, ())) for name in CALLS}
    assert {name: fault for name, fault in faults.items() if fault} == {}


@pytest.mark.parametrize("name", SLOW)
def test_functions_that_train(name, tmp_path):
    assert _fault(name, CONTAINERS["part_of_dask_csr"](plain(), tmp_path)) is None


def test_series_are_taken_by_name():
    """In another order, or refused; never by position."""
    adata = plain()
    order = np.random.default_rng(0).permutation(adata.n_obs)
    normal = adata.obs["normal"].iloc[order]
    scdae.tl.anomaly_score(adata, _model(), normal="normal", key_added="column")
    scdae.tl.anomaly_score(adata, _model(), normal=normal, key_added="series")
    np.testing.assert_array_equal(adata.obs["series"], adata.obs["column"])
    mask = pd.DataFrame(adata.layers["observed"], adata.obs_names, adata.var_names)
    expected = _model().impute(adata, mask="observed")
    np.testing.assert_array_equal(_model().impute(adata, mask=mask.iloc[order, ::-1]), expected)
    depth = pd.Series(np.arange(adata.n_obs) + 500.0, adata.obs_names)
    expected = _model().impute(adata, output="log1p", depth=depth.to_numpy())
    np.testing.assert_array_equal(_model().impute(adata, output="log1p", depth=depth.iloc[order]), expected)
