import numpy as np
import pytest

import small
from scdae.counts import Counts, read_counts
from scdae.evidence import cell_gain, gene_table, query_gain, summary

RECORD = {"output": "mean", "layer": "X"}


@pytest.fixture(scope="module")
def model():
    return small.fitted(likelihood="nb")


@pytest.fixture(scope="module")
def counts():
    return read_counts(small.structured())


def part_of(counts, columns, rows=slice(None)):
    return Counts(counts.matrix[rows][:, columns], None, counts.obs_names[rows], counts.var_names[columns], False)


def test_gene_table_has_one_value_a_gene(model, counts):
    table = gene_table(model, counts, None)
    assert set(table) == {"dispersion", "dropout", "zero_inflated", "gate", "gain"}
    assert all(column.shape == (small.N_VARS,) for column in table.values())
    theta = np.exp(np.asarray(model.outcome.fitted.params["log_theta"][...]))
    np.testing.assert_allclose(table["dispersion"], 1 / theta, rtol=1e-5)
    assert table["zero_inflated"].dtype == bool and not table["dropout"].any()
    np.testing.assert_array_equal(table["gain"], model.outcome.report.gene_gain)


def test_poisson_has_no_dispersion(counts):
    assert not gene_table(small.fitted(likelihood="poisson"), counts, None)["dispersion"].any()


def test_gene_table_follows_the_query(model, counts):
    whole = gene_table(model, counts, None)
    order = np.arange(small.N_VARS)[::-1][:50]
    table = gene_table(model, part_of(counts, order), None)
    for name, column in table.items():
        np.testing.assert_array_equal(column, whole[name][order])
    other = part_of(counts, np.arange(small.N_VARS))
    other.var_names[3] = "new"
    assert gene_table(model, other, None)["gain"][3] == 0


def test_cells_without_counts_have_no_gain():
    gain = cell_gain(small.fitted_to_gaps(), read_counts(small.with_gaps()))
    assert gain.shape == (small.N_OBS,) and gain.dtype == np.float32
    assert gain[3] == 0 and (np.delete(gain, 3) != 0).all()


def test_gain_on_other_cells_is_like_that_of_the_fit(model, counts):
    of_gene, of_cell, skill = query_gain(model, part_of(counts, np.arange(60), slice(0, 100)), None, seed=5)
    assert of_gene.shape == (60,) and of_cell.shape == (100,)
    assert skill == pytest.approx(model.outcome.report.skill, abs=0.08)


def test_gain_of_empty_and_of_unobserved_cells(model, counts):
    empty = part_of(counts, np.arange(60), slice(0, 3))
    none = Counts(empty.matrix * 0, None, empty.obs_names, empty.var_names, False)
    none.matrix.eliminate_zeros()
    of_gene, of_cell, skill = query_gain(model, none, None, seed=0)
    assert not of_gene.any() and not of_cell.any() and skill == 0
    mask = np.ones((small.N_OBS, small.N_VARS), bool)
    mask[3] = False
    of_gene, of_cell, skill = query_gain(model, read_counts(small.structured(), mask=mask), None, seed=0)
    assert np.isfinite(of_gene).all() and np.isfinite(of_cell).all() and np.isfinite(skill)
    assert of_cell[3] == 0


def test_summary_is_plain(model, counts):
    entry = summary(model, gene_table(model, counts, None), RECORD, None)

    def check(value):
        if isinstance(value, dict):
            return all(isinstance(key, str) and check(part) for key, part in value.items())
        return isinstance(value, (str, int, float, bool, np.ndarray))

    assert check(entry)
    assert entry["written_by"] == "scdae.pp.impute" and entry["unit"].startswith("expected counts")
    report = entry["report"]
    assert report["n_genes"] == 60 and report["n_genes_helped"] == (model.outcome.report.gene_gain > 0).sum()
    assert report["skill"] == model.outcome.report.skill
    assert report["verdict"].startswith(f"Explains {report['skill']:.1%}")


def test_summary_of_a_query_tells_its_own_gain(model, counts):
    gains = np.full(60, -0.5, np.float32), np.zeros(150, np.float32), -0.25
    entry = summary(model, gene_table(model, counts, gains), RECORD, gains)
    assert entry["report"]["skill"] == -0.25 and entry["report"]["n_genes_helped"] == 0


def test_summary_names_the_batches(counts):
    model = small.fitted(batch_key="batch", likelihood="nb")
    entry = summary(model, gene_table(model, counts, None), RECORD, None)
    assert entry["batch_key"] == "batch" and list(entry["batch_levels"]) == model.batch_levels


def test_summary_names_the_covariates_and_the_batch_that_all_are_in():
    model, record = small.fitted_to_covariates(), {**RECORD, "transform_batch": "average"}
    entry = summary(model, gene_table(model, read_counts(small.covaried()), None), record, None)
    assert list(entry["covariates"]) == ["donor", "age"]
    assert entry["transform_batch"] == "average" and entry["unit"].endswith("as if measured in batch 'average'")
    plain = summary(model, gene_table(model, read_counts(small.covaried()), None), RECORD, None)
    assert "transform_batch" not in plain and entry["unit"].startswith(plain["unit"])


def test_gain_on_other_cells_with_batches_is_like_that_of_the_fit():
    model, adata = small.fitted(batch_key="batch", likelihood="nb"), small.structured()
    gain = query_gain(model, read_counts(adata), model._conditions(adata), seed=5)
    assert gain[2] == pytest.approx(model.outcome.report.skill, abs=0.05)
    adata.obs["batch"] = np.where(adata.obs["batch"] == "batch_1", "batch_2", "batch_1")
    assert query_gain(model, read_counts(adata), model._conditions(adata), seed=5)[2] < gain[2] - 0.02
