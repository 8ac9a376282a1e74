"""Plots: what is drawn, not how it looks. The objects are laid out by hand, as `scdae.pp.impute` does."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scdae import datasets, pl
from scdae.outputs.group_tables import GROUP_COLUMNS

mpl.use("Agg")


@pytest.fixture
def adata():
    adata = datasets.simulate(90, 30, n_types=3, seed=1)
    adata.layers["scdae"] = 2 * adata.layers["truth"]
    history = {"step": np.arange(4.0), "loss": np.arange(4.0), "heldout_loglik": np.array([0.1, 0.3, 0.2, 0.2])}
    adata.uns["scdae"] = {"output": "mean", "layer": "X", "report": {"skill": 0.2, "history": history}}
    return adata


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def images(axes):
    return [axis.images[0].get_array() for axis in axes]


def test_before_after_draws_the_three_on_one_scale(adata):
    genes = ["gene_3", "gene_9"]
    axes = pl.before_after(adata, genes, truth="truth", show=False)
    assert [axis.get_title() for axis in axes] == ["before (counts)", "after (restored)", "truth"]
    before, after, truth = images(axes)
    assert before.shape == after.shape == truth.shape == (2, 90)
    x = adata.X.toarray()
    np.testing.assert_allclose(before, np.log1p(1e4 * (x / x.sum(axis=1, keepdims=True))[:, [2, 8]]).T, rtol=1e-5)
    # restored and truth are each scaled by the depth they were made at
    share = adata.layers["truth"] / adata.layers["truth"].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(truth, np.log1p(1e4 * share[:, [2, 8]]).T, rtol=1e-5)
    expected = np.log1p(1e4 * adata.layers["scdae"][:, [2, 8]] / x.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(after, expected.T, rtol=1e-5)
    limits = {axis.images[0].get_clim() for axis in axes}
    assert limits == {(0, max(before.max(), after.max(), truth.max()))}
    assert [label.get_text() for label in axes[0].get_yticklabels()] == genes


def test_before_after_sorts_and_names_the_groups(adata):
    options = {"groupby": ["cell_type", "pseudotime"], "group_width": "cells"}
    axes = pl.before_after(adata, ["gene_1"], **options, show=False)
    order = adata.obs.sort_values(["cell_type", "pseudotime"]).index
    expected = adata[order, "gene_1"].layers["truth"].ravel()
    size = adata[order].X.toarray().sum(axis=1)
    np.testing.assert_allclose(images(axes)[1].ravel(), np.log1p(2e4 * expected / size), rtol=1e-5)
    assert [label.get_text() for label in axes[0].get_xticklabels()] == ["type_1", "type_2", "type_3"]
    assert len(axes[0].lines) == 2, "a line between each two groups"


def test_before_after_gives_each_group_the_same_width(adata):
    adata.obs["kind"] = pd.Categorical(["rare"] * 3 + ["common"] * 80 + ["other"] * 7)
    axes = pl.before_after(adata, ["gene_1"], groupby="kind", max_cells=30, show=False)
    drawn = images(axes)[0].ravel()
    assert drawn.shape == (30,)
    x = adata.X.toarray()
    shown = np.log1p(1e4 * x[:, 0] / x.sum(axis=1))
    assert drawn[20:].tolist() == pytest.approx(list(shown[[0, 0, 0, 0, 1, 1, 1, 2, 2, 2]]))  # the last by name
    assert (np.abs(drawn[:10, None] - shown[None, 3:83]).min(axis=1) < 1e-5).all()
    assert list(axes[0].get_xticks()) == [4.5, 14.5, 24.5]
    with pytest.raises(ValueError, match="group_width='half': choose"):
        pl.before_after(adata, ["gene_1"], group_width="half", show=False)


def test_before_after_draws_at_most_max_cells(adata):
    assert images(pl.before_after(adata, ["gene_1"], max_cells=20, show=False))[0].shape == (1, 20)


def test_before_after_takes_the_layer_that_was_restored(adata):
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X * 0
    adata.uns["scdae"]["layer"] = "counts"
    assert images(pl.before_after(adata, ["gene_1"], show=False))[0].max() > 0


def test_before_after_reads_proportions(adata):
    adata.uns["scdae"]["output"] = "rate"
    adata.layers["scdae"] = adata.layers["truth"] / adata.layers["truth"].sum(axis=1, keepdims=True)
    _, after, truth = images(pl.before_after(adata, ["gene_4"], truth="truth", show=False))
    np.testing.assert_allclose(after, truth, rtol=1e-4)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_entries_that_were_not_measured_leave_the_others_on_their_scale(adata, form):
    adata.X = adata.X.toarray()
    adata.X[:40, 2] = np.nan
    depth = adata.layers["scdae"].sum(axis=1)
    adata.layers["scdae"][:, 5] = np.nan  # a gene that the model does not know
    depth -= 2 * adata.layers["truth"][:, 5]
    adata.layers["scdae"] = form(adata.layers["scdae"])
    adata.uns["scdae"]["missing"] = {"n_unobserved": 40}
    drawn = pl.before_after(adata, ["gene_3", "gene_9"], show=False)
    before, after = (np.ma.filled(image, np.nan) for image in images(drawn))
    assert np.isnan(before[0, :40]).all() and np.isfinite(before[0, 40:]).all() and np.isfinite(after).all()
    restored = 2 * adata.layers["truth"][:, [2, 8]]
    np.testing.assert_allclose(after, np.log1p(1e4 * restored / depth[:, None]).T, rtol=1e-4)
    adata.obsm["X_umap"] = adata.layers["truth"][:, :2]
    axes = pl.embedding(adata, ["gene_3"], show=False)
    assert axes[0].collections[0].get_clim() == axes[1].collections[0].get_clim()
    assert np.isfinite(axes[1].collections[0].get_clim()).all()


def test_before_after_saves_and_draws_into_given_axes(adata, tmp_path):
    _, axes = plt.subplots(1, 2)
    drawn = pl.before_after(adata, ["gene_1"], ax=axes, save=tmp_path / "plot.png")
    assert drawn == list(axes)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("kind", "words", "options"),
    [
        (KeyError, "1 of 1 genes .*: nope", {"genes": ["nope"]}),
        (KeyError, "no column 'age' in adata.obs", {"groupby": "age"}),
        (KeyError, "no layer 'gold'.*'truth'", {"truth": "gold"}),
        (KeyError, "no adata.layers.'b'", {"key": "b"}),
        (ValueError, "one axes a panel: 2", {"ax": [None]}),
    ],
)
def test_before_after_says_what_is_wrong(adata, kind, words, options):
    with pytest.raises(kind, match=words):
        pl.before_after(adata, **{"genes": ["gene_1"], "show": False, **options})


def test_before_after_refuses_what_is_not_a_count(adata):
    adata.uns["scdae"]["output"] = "sd"
    with pytest.raises(ValueError, match="holds output='sd'"):
        pl.before_after(adata, ["gene_1"], show=False)


def test_history_draws_loss_and_held_out_likelihood(adata):
    axis = pl.history(adata, show=False)
    np.testing.assert_array_equal(axis.lines[0].get_xydata(), [[0, 0], [1, 1], [2, 2], [3, 3]])
    twin = next(other for other in axis.figure.axes if other is not axis)
    np.testing.assert_array_equal(twin.lines[0].get_xydata(), [[0, 0.1], [1, 0.3], [2, 0.2], [3, 0.2]])


def test_history_draws_the_curve_of_the_loss_and_marks_what_was_kept(adata):
    history = adata.uns["scdae"]["report"]["history"]
    history |= {"curve_step": np.arange(9.0), "curve_loss": 1 / (1 + np.arange(9.0))}
    axis = pl.history(adata, show=False)
    assert len(axis.lines[0].get_xdata()) == 9
    np.testing.assert_allclose(axis.lines[1].get_ydata()[[0, 8]], [1, 1 / 9])  # alone within a twentieth
    twin = next(other for other in axis.figure.axes if other is not axis)
    np.testing.assert_array_equal(twin.lines[1].get_xydata(), [[1, 0.3]])
    assert axis.get_title() == "last 1 of 3 steps: +0.0000 nats per molecule"


def test_history_that_is_not_there(adata):
    del adata.uns["scdae"]["report"]["history"]
    with pytest.raises(KeyError, match="no training history"):
        pl.history(adata, show=False)


@pytest.fixture
def autoshow():
    """scanpy's settings, put back afterwards."""
    import scanpy

    before = scanpy.settings.autoshow
    yield scanpy.settings
    scanpy.settings.autoshow = before


def test_show_follows_scanpy(adata, monkeypatch, autoshow):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    autoshow.autoshow = False
    assert pl.history(adata) is not None
    assert not shown
    autoshow.autoshow = True
    assert pl.history(adata) is None
    assert shown == [True]


@pytest.fixture
def evaluated(adata):
    n = adata.n_vars
    adata.var["scdae_skill"] = np.linspace(-0.5, 0.5, n).astype(np.float32)
    adata.var.loc[adata.var_names[0], "scdae_skill"] = np.nan
    names = ["not judged", "gene mean is better", "raw is better", *["unclear"] * 7, *["helped"] * (n - 10)]
    adata.var["scdae_verdict"] = pd.Categorical(names)
    pit = np.full(20, 0.05)
    adata.uns["scdae_evaluation"] = {"layer": "X", "pit": pit, "coverage": 0.897, "calibration_entries": 1234}
    return adata


def test_gain_draws_a_dot_for_each_judged_gene(evaluated):
    axis = pl.gain(evaluated, show=False)
    dots = {one.get_label(): len(one.get_offsets()) for one in axis.collections}
    assert dots == {"unclear (7)": 7, "gene mean is better (1)": 1, "raw is better (1)": 1, "helped (20)": 20}
    assert axis.get_xscale() == "log"
    line = next(one for one in axis.lines if one.get_label() == "median (tenths of the genes)")
    assert len(line.get_xdata()) == 10 and (np.diff(line.get_xdata()) > 0).all()


def test_calibration_draws_the_histogram(evaluated):
    axis = pl.calibration(evaluated, show=False)
    np.testing.assert_allclose([bar.get_height() for bar in axis.patches], 1.0)
    assert "89.7% of 1,234" in axis.get_title()
    evaluated.uns["scdae_evaluation"]["calibration_entries"] = 0
    with pytest.raises(KeyError, match="no entry with enough"):
        pl.calibration(evaluated)


def test_noise_sweep_draws_levels_in_order(adata):
    adata.uns["scdae_sweep"] = {
        "level": np.array([0.5, 0.1]),
        "skill": np.array([0.2, 0.1]),
        "skill_se": np.array([0.01, 0.01]),
        "range": np.array([0.1, 0.8]),
        "range_skill": 0.19,
        "corruption": "thinning",
    }
    axis = pl.noise_sweep(adata, show=False)
    assert list(axis.lines[0].get_xdata()) == [0.1, 0.5] and list(axis.lines[0].get_ydata()) == [0.1, 0.2]
    assert axis.get_xlabel() == "fraction of molecules set aside"
    assert "best single level: 0.5" in axis.get_legend_handles_labels()[1]


def groups_of(adata, n, **other):
    """What an evaluation would have written about `n` groups."""
    numbers = {name: np.full(n, 1.0) for name in GROUP_COLUMNS}
    numbers |= {name: np.full(n, 100.0) for name in numbers if name.endswith(("_seen", "_predicted"))}
    text = {name: np.array([f"{name} {i}" for i in range(n)], dtype=object) for name in ("group", "markers", "words")}
    verdict = {"verdict": np.array(["kept"] * n, dtype=object)}
    numbers |= {**text, **verdict, "cells": np.arange(1, n + 1) * 600}
    adata.uns["scdae_evaluation"] = {"fidelity": {"groups": numbers | other}}
    return adata


def points(axis):
    """Of each series: where it is drawn."""
    return {one.get_label(): np.stack(one[0].get_data(), axis=1) for one in axis.containers}


def test_fidelity_draws_a_row_for_each_group(adata):
    ratios = {"zeros_in": np.array([0.9, 1.1, np.nan]), "zeros_in_low": np.array([0.8, 1.0, 0.0])}
    ratios |= {"zeros_in_high": np.array([1.2, np.inf, np.inf]), "zeros_out_seen": np.array([3.0, 80, 80])}
    ratios |= {"zeros_out_predicted": np.array([9.0, 80, 80]), "decoder_in": np.array([0.001, 1.0, np.nan])}
    axis = pl.fidelity(groups_of(adata, 3, **ratios), show=False)
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "group 0 (600)",
        "group 1 (1,200)",
        "group 2 (1,800)",
    ]
    assert list(axis.get_yticks()) == [2, 1, 0] and axis.get_xscale() == "log"
    inside, outside, decoder = points(axis).values()
    np.testing.assert_allclose(inside, [[0.9, 2.22], [1.1, 1.22]])
    np.testing.assert_allclose(outside[:, 0], 1)
    assert axis.get_xlim()[0] < decoder[0, 0] < 0.1  # drawn at the edge
    bars = axis.containers[0][2][0].get_segments()
    np.testing.assert_allclose(bars[0][:, 0], [0.8, 1.2])
    assert bars[1][1, 0] < axis.get_xlim()[1]
    hollow = [line for line in axis.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    assert len(hollow) == 1 and list(hollow[0].get_ydata()) == [2]  # 3 seen and 9 predicted say little
    assert "less than 10 molecules" in axis.get_legend().get_title().get_text()


def test_fidelity_draws_the_groups_that_are_farthest_off(adata, tmp_path):
    ratio = np.linspace(1, 2, 100)
    ratio[7] = 0.1
    axis = pl.fidelity(groups_of(adata, 100, zeros_out=ratio), max_groups=3, save=tmp_path / "a.png", show=False)
    assert [label.get_text().split()[1] for label in axis.get_yticklabels()] == ["7", "98", "99"]
    assert "the 3 of 100 groups" in axis.get_xlabel()
    assert axis.get_legend().get_title().get_text() == ""
    few = pl.fidelity(groups_of(adata, 4), show=False).figure.get_figheight()
    assert pl.fidelity(groups_of(adata, 60), show=False).figure.get_figheight() > 4 * few
    with pytest.raises(ValueError, match="max_groups=0"):
        pl.fidelity(adata, max_groups=0)


def test_fidelity_without_groups(adata):
    with pytest.raises(KeyError, match=r"Call scdae\.tl\.evaluate\(adata, groupby="):
        pl.fidelity(adata)
    nothing = {name: np.full(2, np.nan) for name in ("zeros_in", "zeros_out", "decoder_in")}
    with pytest.raises(ValueError, match="no group could be judged"):
        pl.fidelity(groups_of(adata, 2, **nothing))


@pytest.mark.parametrize("plot", ["gain", "calibration", "noise_sweep", "fidelity"])
def test_what_was_not_measured_cannot_be_drawn(adata, plot):
    with pytest.raises(KeyError, match="first"):
        getattr(pl, plot)(adata)


def test_embedding_draws_each_gene_before_and_after_on_one_scale(adata):
    adata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(adata.n_obs, 3))
    axes = pl.embedding(adata, ["gene_2", "gene_5"], show=False)
    assert [axis.get_title() for axis in axes] == [
        "gene_2, before",
        "gene_2, after",
        "gene_5, before",
        "gene_5, after",
    ]
    for before, after in (axes[:2], axes[2:]):
        first, second = before.collections[0], after.collections[0]
        assert first.get_clim() == second.get_clim()
        assert len(first.get_offsets()) == adata.n_obs
        assert (np.diff(second.get_array()) >= 0).all()  # the highest on top
    expected = np.log1p(1e4 * adata.layers["scdae"][:, 1] / np.asarray(adata.X.sum(axis=1)).ravel())
    np.testing.assert_allclose(np.sort(axes[1].collections[0].get_array()), np.sort(expected), rtol=1e-5)
    with pytest.raises(KeyError, match="basis='tsne'.*Call sc.tl.tsne"):
        pl.embedding(adata, "gene_2", basis="tsne")
    with pytest.raises(ValueError, match="two axes a gene: 2, got 1"):
        pl.embedding(adata, "gene_2", ax=plt.subplots()[1])


def test_gene_against_gene_with_intervals(adata):
    adata.uns["scdae"]["quantiles"] = np.array([0.05, 0.5, 0.95])
    adata.layers["scdae_q05"], adata.layers["scdae_q95"] = 0.5 * adata.layers["scdae"], 2 * adata.layers["scdae"]
    axes = pl.gene_gene(adata, "gene_1", "gene_2", color="cell_type", max_cells=40, show=False)
    assert [axis.get_title() for axis in axes] == ["before (40 of 90 cells)", "after (40 of 90 cells)"]
    assert sum(len(c.get_offsets()) for c in axes[0].collections) == 40
    bars = [bar for container in axes[1].containers for bar in container[2]]
    assert len(bars) == 2 * 3 and len(axes[0].containers) == 0
    ends = np.concatenate([np.array(bar.get_segments())[:, :, 0] for bar in bars[::2]])
    assert (ends[:, 0] <= ends[:, 1]).all() and (ends[:, 0] < ends[:, 1]).any()
    del adata.uns["scdae"]["quantiles"]
    assert not pl.gene_gene(adata, "gene_1", "gene_2", show=False)[1].containers
    with pytest.raises(KeyError, match="color: 'kind' is neither a gene nor in adata.obs"):
        pl.gene_gene(adata, "gene_1", "gene_2", color="kind")
    adata.uns["scdae"]["output"] = "rate"
    with pytest.raises(ValueError, match="draws expected counts"):
        pl.gene_gene(adata, "gene_1", "gene_2")


def test_gene_against_gene_by_numbers_genes_and_scanpys_colors(adata):
    adata.uns["cell_type_colors"] = ["#ff0000", "#00ff00", "#0000ff"]
    axes = pl.gene_gene(adata, "gene_1", "gene_2", color="cell_type", show=False)
    drawn = [mpl.colors.to_hex(part.get_facecolor()[0]) for part in axes[0].collections]
    assert drawn == adata.uns["cell_type_colors"]
    assert axes[0].get_xlim() == axes[1].get_xlim() and axes[0].get_ylim() == axes[1].get_ylim()
    adata.obs["age"] = np.where(np.arange(adata.n_obs) < 5, np.nan, np.arange(adata.n_obs))
    axes = pl.gene_gene(adata, "gene_1", "gene_2", color="age", show=False)
    assert [len(part.get_offsets()) for part in axes[0].collections] == [5, 85]
    assert axes[0].get_legend() is axes[1].get_legend() is None and len(axes[0].figure.axes) == 3
    axes = pl.gene_gene(adata, "gene_1", "gene_2", color="gene_3", show=False)
    before, after = (axis.collections[1] for axis in axes)
    assert before.get_clim() == after.get_clim() and not np.allclose(before.get_array(), after.get_array())
    adata.obs["many"] = pd.Categorical([f"cluster {i % 30}" for i in range(adata.n_obs)])
    axes = pl.gene_gene(adata, "gene_1", "gene_2", color="many", max_cells=89, show=False)
    assert axes[0].get_title() == "before (89 of 90 cells)"
    assert len({mpl.colors.to_hex(part.get_facecolor()[0]) for part in axes[0].collections}) == 30


def test_embedding_has_scanpys_arguments(adata):
    adata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(adata.n_obs, 2))
    counts = adata.X.toarray()
    counts[0, 1] = 500
    adata.X = counts
    figure = pl.embedding(adata, color=["gene_2", "gene_5", "gene_6"], ncols=2, vmax="p90", return_fig=True)
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert len(panels) == 6 and panels[0].get_subplotspec().get_gridspec().ncols == 4
    (low, high), whole = panels[0].collections[0].get_clim(), pl.embedding(adata, "gene_2", show=False)
    top = max(float(axis.collections[0].get_array().max()) for axis in whole)
    assert low == 0 and high < whole[0].collections[0].get_clim()[1] == top
    fixed = pl.embedding(adata, "gene_2", vmin=1, vmax=3, show=False)
    assert fixed[1].collections[0].get_clim() == (1, 3)
    named = pl.embedding(adata, ["gene_2", "gene_5"], title=["first", "second"], show=False)
    assert [axis.get_title() for axis in named] == ["first, before", "first, after", "second, before", "second, after"]
    with pytest.raises(ValueError, match="title needs one text a gene: 2, got 1"):
        pl.embedding(adata, ["gene_2", "gene_5"], title="first")
    for wrong in ({}, {"genes": "gene_2", "color": "gene_2"}):
        with pytest.raises(TypeError, match="needs genes to draw"):
            pl.embedding(adata, **wrong)
    with pytest.raises(ValueError, match="vmax='most': use a number, or a percentile"):
        pl.embedding(adata, "gene_2", vmax="most")
    with pytest.raises(TypeError, match="no argument 'ncol'. Did you mean 'ncols'?"):
        pl.embedding(adata, "gene_2", ncol=2)


def test_save_true_saves_where_scanpy_does(adata, tmp_path, autoshow):
    before, autoshow.figdir = autoshow.figdir, tmp_path / "figures"
    try:
        axis = pl.history(adata, save=True, show=False)
    finally:
        autoshow.figdir = before
    assert axis is not None
    assert (tmp_path / "figures" / f"scdae_history.{autoshow.file_format_figs}").stat().st_size > 0
    assert pl.history(adata, return_fig=True) is plt.gcf()


def dots(axes):
    (found,) = axes["mainplot_ax"].collections[-1:]
    return found


def test_dotplot_tells_groups_apart_where_no_value_is_zero(adata):
    adata.layers["scdae"] = np.full(adata.shape, 0.01)
    adata.layers["scdae"][adata.obs["cell_type"] == "type_2", 3] = 40
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.add_categories(["nobody"])
    axes = pl.dotplot(adata, {"second": ["gene_4"], "none": "gene_5"}, "cell_type", show=False)
    drawn = dots(axes)
    sizes = drawn.get_sizes().reshape(3, 2)
    assert sizes[1, 0] > sizes[0, 0] == sizes[2, 0] == sizes[0, 1], "only above the cutoff a cell counts"
    np.testing.assert_allclose(drawn.get_facecolor().reshape(3, 2, 4)[:, 0], mpl.colormaps["Reds"]([0.0, 1.0, 0.0]))
    assert [label.get_text() for label in axes["mainplot_ax"].get_xticklabels()] == ["gene_4", "gene_5"]


@pytest.mark.parametrize("output", ["mean", "rate", "log1p"])
def test_dotplot_of_any_output_has_the_same_scale(adata, output):
    size = np.asarray(adata.X.sum(axis=1))
    rate = adata.layers["truth"] / size
    adata.layers["scdae"] = {"mean": rate * size, "rate": rate, "log1p": np.log1p(1e4 * rate)}[output]
    adata.uns["scdae"]["output"] = output
    figure = pl.dotplot(adata, "gene_4", "cell_type", standard_scale=None, return_fig=True)
    drawn = dots({"mainplot_ax": next(axis for axis in figure.axes if axis.get_xticklabels())})
    expected = pd.Series(np.log1p(1e4 * rate[:, 3])).groupby(adata.obs["cell_type"].to_numpy()).mean()
    shade = (expected - expected.min()) / (expected.max() - expected.min())
    np.testing.assert_allclose(drawn.get_facecolor(), mpl.colormaps["Reds"](shade), atol=0.01)


def of_two_outputs(adata):
    """As a call with output=("mean", "log1p") leaves it."""
    size = np.asarray(adata.X.sum(axis=1))
    logs = np.log1p(1e4 * adata.layers["truth"] / size)
    adata.layers["scdae_log1p"] = logs
    outputs = np.array(["mean", "log1p"], dtype=object)
    units = {"scdae": "counts", "scdae_log1p": "logs"}
    adata.uns["scdae"] |= {"written_by": "scdae.pp.impute", "outputs": outputs, "units": units}
    return logs


@pytest.mark.parametrize("which", [{"output": "log1p"}, {"key": "scdae_log1p"}])
def test_dotplot_of_one_of_several_outputs_takes_its_scale(adata, which):
    logs = of_two_outputs(adata)
    figure = pl.dotplot(adata, "gene_4", "cell_type", standard_scale=None, return_fig=True, vmin=0, vmax=10, **which)
    drawn = dots({"mainplot_ax": next(axis for axis in figure.axes if axis.get_xticklabels())})
    expected = pd.Series(logs[:, 3]).groupby(adata.obs["cell_type"].to_numpy()).mean()
    np.testing.assert_allclose(drawn.get_facecolor(), mpl.colormaps["Reds"](expected / 10), atol=0.01)


def test_plots_of_counts_do_not_take_logs_of_logs(adata):
    of_two_outputs(adata)
    adata.obsm["X_umap"] = np.zeros((90, 2))
    with pytest.raises(ValueError, match=r"holds output='log1p'\. Pass key='scdae'\."):
        pl.embedding(adata, "gene_1", key="scdae_log1p")
    with pytest.raises(ValueError, match="Pass key='scdae'"):
        pl.gene_gene(adata, "gene_1", "gene_2", key="scdae_log1p")
    with pytest.raises(ValueError, match="Pass key='scdae'"):
        pl.before_after(adata, "gene_1", key="scdae_log1p")


def test_dotplot_says_what_is_wrong(adata):
    with pytest.raises(TypeError, match="layer='scdae_log1p'.*output='log1p'"):
        pl.dotplot(adata, "gene_1", "cell_type", layer="scdae_log1p")
    with pytest.raises(KeyError, match="groupby: no column 'leiden'"):
        pl.dotplot(adata, "gene_1", "leiden")
    with pytest.raises(KeyError, match="nope"):
        pl.dotplot(adata, ["nope"], "cell_type")
    adata.uns["scdae"]["output"] = "sd"
    with pytest.raises(ValueError, match="standard deviations"):
        pl.dotplot(adata, ["gene_1"], "cell_type")
