import dataclasses

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import scdae
import small
from scdae.core.data.thinning import thin_values
from scdae.core.prediction.decode import law_of_genes
from scdae.inputs.counts import Counts, read_counts
from scdae.outputs.report import cell_gain, gene_table, is_foreign, query_report, summary, verdict

RECORD = {"outputs": np.array(["mean"], dtype=object), "layer": "X"}


@pytest.fixture(scope="module")
def model():
    return small.fitted(likelihood="nb")


@pytest.fixture(scope="module")
def counts():
    return read_counts(small.structured())


def part_of(counts, columns, rows=slice(None)):
    return Counts(counts.matrix[rows][:, columns], None, counts.obs_names[rows], counts.var_names[columns], False)


def test_gene_table_has_one_value_a_gene(model, counts):
    table = gene_table(model.fitted_model(), counts, model.outcome.report)
    assert set(table) == {
        "dispersion",
        "dropout",
        "zero_inflated",
        "zero_inflated_probability",
        "gate",
        "gain",
        "helped",
    }
    assert all(column.shape == (small.N_VARS,) for column in table.values())
    law = law_of_genes(model.outcome.fitted)  # components of mean 1 in all: their spread within and between
    mean = (law.average * law.scale).sum(axis=0)
    square = (law.average * law.scale**2 * (1 + 1 / law.theta)).sum(axis=0)
    np.testing.assert_allclose(table["dispersion"], square / mean**2 - 1, rtol=1e-3)
    assert table["zero_inflated"].dtype == bool and not table["dropout"].any()
    np.testing.assert_array_equal(table["gain"], model.outcome.report.gene_gain)
    np.testing.assert_array_equal(table["helped"], model.outcome.report.helped)


def test_poisson_has_no_dispersion(counts):
    model = small.fitted(likelihood="poisson")
    assert not gene_table(model.fitted_model(), counts, model.outcome.report)["dispersion"].any()


def test_gene_table_follows_the_query(model, counts):
    whole = gene_table(model.fitted_model(), counts, model.outcome.report)
    order = np.arange(small.N_VARS)[::-1][:50]
    table = gene_table(model.fitted_model(), part_of(counts, order), model.outcome.report)
    for name, column in table.items():
        np.testing.assert_array_equal(column, whole[name][order])
    other = part_of(counts, np.arange(small.N_VARS))
    other.var_names[3] = "new"
    table = gene_table(model.fitted_model(), other, model.outcome.report)
    assert np.isnan(table["gain"][3]) and table["dispersion"][3] == 0 and not table["helped"][3]


def test_cells_without_counts_have_no_gain():
    outcome = small.fitted_to_gaps().outcome
    gain = cell_gain(outcome.report, outcome.cells, read_counts(small.with_gaps()))
    assert gain.shape == (small.N_OBS,) and gain.dtype == np.float32
    assert np.isnan(gain[3]) and np.isfinite(np.delete(gain, 3)).all()


def test_gain_on_other_cells_is_like_that_of_the_fit(model, counts):
    report, cells = query_report(model.fitted_model(), part_of(counts, np.arange(60), slice(0, 100)), None, seed=5)
    assert report.gene_gain.shape == (60,) and report.cell_gain.shape == (100,) and len(cells) == 100
    assert report.skill == pytest.approx(model.outcome.report.skill, abs=0.02)


def test_gain_of_empty_and_of_unobserved_cells(model, counts):
    empty = part_of(counts, np.arange(60), slice(0, 3))
    none = Counts(empty.matrix * 0, None, empty.obs_names, empty.var_names, False)
    none.matrix.eliminate_zeros()
    report, _ = query_report(model.fitted_model(), none, None, seed=0)
    assert np.isnan(report.gene_gain).all() and np.isnan(report.cell_gain).all() and report.skill == 0
    mask = np.ones((small.N_OBS, small.N_VARS), bool)
    mask[3] = False
    report, _ = query_report(model.fitted_model(), read_counts(small.structured(), mask=mask), None, seed=0)
    assert np.isfinite(report.gene_gain).all() and np.isfinite(report.skill)
    assert np.isnan(report.cell_gain[3]) and np.isfinite(np.delete(report.cell_gain, 3)).all()


def test_summary_is_plain(model, counts):
    entry = summary(
        model.fitted_model(),
        gene_table(model.fitted_model(), counts, model.outcome.report),
        RECORD,
        model.outcome.report,
    )

    def check(value):
        if isinstance(value, dict):
            return all(isinstance(key, str) and check(part) for key, part in value.items())
        return isinstance(value, (str, int, float, bool, np.ndarray))

    assert check(entry)
    assert entry["written_by"] == "scdae.pp.impute" and entry["unit"].startswith("expected counts")
    report = entry["report"]
    assert report["n_genes"] == 60 and report["n_genes_helped"] == model.outcome.report.helped.sum()
    assert report["skill"] == model.outcome.report.skill
    assert f"{np.expm1(report['skill']):.1%} more likely" in report["verdict"]


def test_summary_of_a_query_tells_its_own_gain(model, counts):
    report, _ = query_report(model.fitted_model(), part_of(counts, np.arange(60), slice(0, 50)), None, seed=5)
    entry = summary(model.fitted_model(), gene_table(model.fitted_model(), counts, report), RECORD, report)
    assert entry["report"]["skill"] == report.skill != model.outcome.report.skill


def test_verdict_of_no_gain():
    assert "no better than" in verdict(0.0, 0, 60) and "no better than" in verdict(-0.1, 3, 60)


def test_summary_names_the_batches(counts):
    model = small.fitted(batch_key="batch", likelihood="nb")
    entry = summary(
        model.fitted_model(),
        gene_table(model.fitted_model(), counts, model.outcome.report),
        RECORD,
        model.outcome.report,
    )
    assert entry["batch_key"] == "batch" and list(entry["batch_levels"]) == model.batch_levels


def test_summary_names_the_covariates_and_the_batch_that_all_are_in():
    model, record = small.fitted_to_covariates(), {**RECORD, "transform_batch": "average"}
    entry = summary(
        model.fitted_model(),
        gene_table(model.fitted_model(), read_counts(small.covaried()), model.outcome.report),
        record,
        model.outcome.report,
    )
    assert list(entry["covariates"]) == ["donor", "age"]
    assert entry["transform_batch"] == "average" and entry["unit"].endswith("as if measured in batch 'average'")
    plain = summary(
        model.fitted_model(),
        gene_table(model.fitted_model(), read_counts(small.covaried()), model.outcome.report),
        RECORD,
        model.outcome.report,
    )
    assert "transform_batch" not in plain and entry["unit"].startswith(plain["unit"])


def test_gain_on_other_cells_with_batches_is_like_that_of_the_fit():
    model, adata = small.fitted(batch_key="batch", likelihood="nb"), small.structured()
    skill = query_report(model.fitted_model(), read_counts(adata), model.fitted_model().conditions(adata), seed=5)[
        0
    ].skill
    assert skill == pytest.approx(model.outcome.report.skill, abs=0.02)
    adata.obs["batch"] = np.where(adata.obs["batch"] == "batch_1", "batch_2", "batch_1")
    report, _ = query_report(model.fitted_model(), read_counts(adata), model.fitted_model().conditions(adata), seed=5)
    assert report.skill + 2 * report.skill_error < -0.01 < skill


def law_of_cells(n_cells, depth, seed):
    """New cells of one law at some depth."""
    truth, rng = small.structured(), np.random.default_rng(seed)
    rows = rng.integers(0, small.N_OBS, n_cells)
    rate = depth * np.asarray(truth.layers["truth"])[rows]
    spread = truth.var["dispersion"].to_numpy()
    counts = rng.poisson(rate * rng.gamma(1 / spread, spread, rate.shape)).astype(np.float32)
    names = np.array([f"cell {i}" for i in range(n_cells)])
    return Counts(sp.csr_matrix(counts), None, names, truth.var_names.to_numpy(str), False)


@pytest.fixture(scope="module")
def one_law():
    """A model of three hundred cells of the law."""
    counts = law_of_cells(300, 1.0, 0)
    adata = ad.AnnData(counts.matrix, var=small.structured().var[[]])
    return scdae.DAE(likelihood="nb", max_epochs=60, batch_size=64, n_latent=10).fit(adata)


@pytest.fixture(scope="module")
def usual(one_law):
    """Report on new cells of the law."""
    return query_report(one_law.fitted_model(), law_of_cells(4000, 1.0, 1), None, 0, share=0.1)[0]


@pytest.mark.parametrize("share", [0.03, 0.5])
@pytest.mark.parametrize(("n_cells", "depth"), [(1000, 0.5), (1000, 2.0), (4000, 1.0)])
def test_skill_of_one_law_is_one_number(one_law, usual, n_cells, depth, share):
    """Whatever the number of cells, their depth and the share held out."""
    report, _ = query_report(one_law.fitted_model(), law_of_cells(n_cells, depth, 2), None, 0, share=share)
    assert usual.skill > 0.03 and report.skill == pytest.approx(usual.skill, abs=0.01)
    assert report.efficiency > 0.9 and not is_foreign(report)


@pytest.mark.parametrize("n_cells", [100, 2000])
def test_cells_of_another_law_are_foreign(one_law, n_cells):
    """Another platform: each gene is caught with an efficiency of its own."""
    counts = law_of_cells(n_cells, 1.0, 3)
    efficiency = np.exp(np.random.default_rng(4).normal(0, 0.7, 60))
    matrix = counts.matrix.copy()
    matrix.data = thin_values(matrix.data, (efficiency / efficiency.max())[matrix.indices], np.random.default_rng(5))
    report, _ = query_report(one_law.fitted_model(), dataclasses.replace(counts, matrix=matrix), None, 0)
    assert is_foreign(report)
