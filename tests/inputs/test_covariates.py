import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scdae
import small
from scdae.inputs.covariates import AVERAGE, Covariates, read_covariates
from scdae.matrices.obs_columns import read_batches


def _wrap(n_obs=3, **columns):
    obs = pd.DataFrame(columns, index=[f"cell{i}" for i in range(n_obs)])
    return ad.AnnData(np.ones((n_obs, 2)), obs=obs)


@pytest.fixture
def adata():
    return _wrap(
        6,
        lane=pd.Categorical(list("bbaacc"), categories=list("zcab")),
        run=[7, 7, 8, 8, 7, 8],
        sex=["f", "m", "f", "m", "f", "m"],
        smokes=[True, False, False, True, True, False],
        age=[20, 30, 40, 50, 60, 70],
        score=np.array([0.5, -1.0, 2.0, 0.0, 1.0, 0.25]),
    )


def test_nothing_asked_for_is_nothing(adata):
    found, conditions = read_covariates(adata, None, None)
    assert conditions is None and found == Covariates()
    assert found.n_levels == 0 and found.batch_levels == [] and found.others == []
    assert read_covariates(adata, None, [])[1] is None


def test_levels_are_numbered_on_and_batches_come_first(adata):
    found, conditions = read_covariates(adata, "lane", ["age", "sex", "smokes"])
    assert found.batch_key == "lane" and found.batch_levels == ["c", "a", "b"]  # the unused level is left out
    assert found.levels == {"lane": ["c", "a", "b"], "sex": ["f", "m"], "smokes": ["False", "True"]}
    assert list(found.levels)[0] == "lane" and found.n_levels == 7
    assert sorted(found.others) == ["age", "sex", "smokes"]
    expected = np.array([[2, 3, 6], [2, 4, 5], [1, 3, 5], [1, 4, 6], [0, 3, 6], [0, 4, 5]])
    np.testing.assert_array_equal(conditions.levels, expected)
    assert conditions.levels.dtype == np.int32 and conditions.values.dtype == np.float32
    age = adata.obs["age"].to_numpy(float)
    np.testing.assert_allclose(conditions.values[:, 0], (age - age.mean()) / age.std(), rtol=1e-6)
    assert found.scales == {"age": (pytest.approx(45.0), pytest.approx(age.std()))}


def test_numbers_are_continuous_and_numbers_of_batches_are_names(adata):
    found, conditions = read_covariates(adata, "run", ["age", "score"])
    assert found.levels == {"run": ["7", "8"]} and list(found.scales) == ["age", "score"]
    np.testing.assert_array_equal(conditions.levels, [[0], [0], [1], [1], [0], [1]])
    np.testing.assert_allclose(conditions.values.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(conditions.values.std(axis=0), 1, rtol=1e-6)
    assert not read_covariates(adata, None, "score")[0].levels


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float16", "float32", "Int64", "Float64"])
def test_numbers_of_every_kind(adata, dtype):
    reference = read_covariates(adata, None, "age")[1].values
    adata.obs["age"] = adata.obs["age"].astype(dtype)
    found, conditions = read_covariates(adata, None, "age")
    assert found.scales["age"][0] == pytest.approx(45)
    np.testing.assert_allclose(conditions.values, reference, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["category", "string", "object", "boolean"])
def test_labels_of_every_kind(adata, dtype):
    adata.obs["smokes"] = adata.obs["smokes"].astype(dtype)
    found, conditions = read_covariates(adata, None, ["smokes"])
    assert found.levels == {"smokes": ["False", "True"]} and not found.scales
    np.testing.assert_array_equal(conditions.levels[:, 0], [1, 0, 0, 1, 1, 0])


def test_categories_that_are_numbers_are_levels(adata):
    adata.obs["run"] = adata.obs["run"].astype("category")
    assert read_covariates(adata, None, "run")[0].levels == {"run": ["7", "8"]}


def test_the_table_is_not_changed(adata):
    before = adata.obs.copy()
    read_covariates(adata, "lane", ["run", "sex", "smokes", "age", "score"])
    pd.testing.assert_frame_equal(adata.obs, before)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, r"obs\['score'\] \(covariates\) has no value in 2 of 6 cells, the first being 'cell2' \(row 2\)"),
        (np.inf, r"obs\['score'\] is not finite in 2 of 6 cells, the first being 'cell2' \(row 2\)"),
        (-np.inf, r"obs\['score'\] is not finite in 2 of 6 cells, the first being 'cell2' \(row 2\)"),
    ],
)
def test_numbers_that_are_none(adata, value, words):
    adata.obs.loc[["cell2", "cell5"], "score"] = value
    with pytest.raises(ValueError, match=words):
        read_covariates(adata, "lane", ["sex", "score"])


def test_labels_that_are_missing(adata):
    adata.obs["sex"] = ["f", "m", "f", "m", None, "m"]
    with pytest.raises(
        ValueError, match=r"obs\['sex'\] \(covariates\) has no value in 1 of 6 cells.*'cell4' \(row 4\)"
    ):
        read_covariates(adata, "lane", "sex")
    adata.obs["lane"] = adata.obs["lane"].cat.remove_categories("a")
    with pytest.raises(
        ValueError, match=r"obs\['lane'\] \(batch_key\) has no value in 2 of 6 cells.*'cell2' \(row 2\)"
    ):
        read_covariates(adata, "lane", None)


@pytest.mark.parametrize(
    ("batch_key", "covariates", "words"),
    [
        ("lane", ["sex", "sex"], "'sex' is given twice"),
        ("lane", ["age", "lane"], r"'lane' is given twice \(batch_key='lane'\)"),
        ("lane", "lane", "'lane' is given twice"),
        (None, "height", "covariates='height' not found in adata.obs. Columns there: 'lane'"),
        ("place", "sex", "batch_key='place' not found in adata.obs"),
        (None, ["flat"], r"obs\['flat'\] is 3.5 in all 6 cells and says nothing. Leave it out"),
    ],
)
def test_columns_that_do_not_fit(adata, batch_key, covariates, words):
    adata.obs["flat"] = 3.5
    with pytest.raises(ValueError, match=words):
        read_covariates(adata, batch_key, covariates)


def test_columns_of_the_same_name(adata):
    adata.obs = pd.concat([adata.obs, adata.obs[["age"]]], axis=1)
    with pytest.raises(ValueError, match="covariates='age': obs has 2 columns of this name"):
        read_covariates(adata, None, "age")


def test_names_that_are_no_names(adata):
    with pytest.raises(TypeError, match="name of one obs column"):
        read_covariates(adata, ["lane", "run"], None)
    with pytest.raises(TypeError, match="name of one obs column"):
        read_covariates(adata, None, [["lane", "run"]])


# Other cells --------------------------------------------------------------------------------------------------------


@pytest.fixture
def known(adata):
    return read_covariates(adata, "lane", ["sex", "age"])[0]


def test_conditions_of_other_cells_are_in_terms_of_the_fit(adata, known):
    query = _wrap(2, lane=["a", "c"], sex=pd.Categorical(["m", "m"]), age=[45.0, 45 + known.scales["age"][1]])
    found = known.conditions(query)
    np.testing.assert_array_equal(found.levels, [[1, 4], [0, 4]])
    np.testing.assert_allclose(found.values, [[0], [1]], atol=1e-6)
    whole = known.conditions(adata)
    part = known.conditions(adata[[4, 1]].copy())
    np.testing.assert_array_equal(part.levels, whole.levels[[4, 1]])
    np.testing.assert_allclose(part.values, whole.values[[4, 1]])


def test_batches_that_are_numbers_are_found_again(adata):
    known = read_covariates(adata, "run", None)[0]
    for labels in ([8, 7], [8.0, 7.0], ["8", "7"], pd.Categorical([8, 7])):
        np.testing.assert_array_equal(known.conditions(_wrap(2, run=labels)).levels, [[1], [0]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lane": ["a", "q"]}, r"obs\['lane'\] has 1 level\(s\) that the model was not fitted to, the first being 'q'"),
        ({"sex": ["x", "y"]}, r"obs\['sex'\] has 2 level\(s\).*the first being 'x'. It knows 'f', 'm'"),
        ({"age": ["old", "young"]}, r"obs\['age'\] held numbers in the fit, but is"),
        ({"age": [True, False]}, r"obs\['age'\] held numbers in the fit, but is bool"),
        ({"age": [1.0, np.nan]}, r"obs\['age'\] \(covariates\) has no value in 1 of 2 cells.*'cell1' \(row 1\)"),
        ({"age": [np.inf, 3.0]}, r"obs\['age'\] is not finite in 1 of 2 cells.*'cell0' \(row 0\)"),
        ({"sex": None}, "covariates='sex' not found in adata.obs"),
        ({"lane": None}, "batch_key='lane' not found in adata.obs"),
        ({"age": None}, "covariates='age' not found in adata.obs"),
    ],
)
def test_cells_that_do_not_fit(known, change, words):
    columns = {"lane": ["a", "c"], "sex": ["f", "m"], "age": [30.0, 40.0]} | change
    query = _wrap(2, **{name: values for name, values in columns.items() if values is not None})
    with pytest.raises(ValueError, match=words):
        known.conditions(query)


# The batch that all cells are put into ------------------------------------------------------------------------------


def test_weights_of_a_batch(known):
    for name, expected in (("c", [1, 0, 0]), ("a", [0, 1, 0]), ("b", [0, 0, 1]), ("average", [1 / 3] * 3)):
        weights = known.batch_weights(name)
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_batches_that_are_numbers_have_weights(adata):
    known = read_covariates(adata, "run", "sex")[0]
    for name in (8, 8.0, "8"):
        np.testing.assert_array_equal(known.batch_weights(name), [0, 1])


def test_a_batch_called_average_is_that_batch():
    known = read_covariates(_wrap(3, lane=["average", "b", "b"]), "lane", None)[0]
    np.testing.assert_array_equal(known.batch_weights(AVERAGE), [1, 0])


def test_batches_that_are_not_there(adata, known):
    with pytest.raises(
        ValueError, match=r"'f' is not a batch of obs\['lane'\]. Choose 'average' or one of 'c', 'a', 'b'"
    ):
        known.batch_weights("f")  # a level of another column
    with pytest.raises(ValueError, match="transform_batch='a' needs batch_key="):
        read_covariates(adata, None, "lane")[0].batch_weights("a")
    with pytest.raises(ValueError, match="transform_batch='average' needs batch_key="):
        Covariates().batch_weights("average")


# Values that say nothing, values that were never seen, names that are numbers ------------------------------------------


@pytest.mark.parametrize(
    "values", [[3.3] * 150, [1e-30] * 150, [np.float32(3.3)] * 75 + [3.3] * 75, [7] * 150, [-4.7e9] * 150, [0.0] * 150]
)
def test_one_number_throughout_is_refused_whatever_it_is(values):
    adata = _wrap(150, age=values)
    with pytest.raises(ValueError, match=r"covariates: obs\['age'\] is .* in all 150 cells and says nothing"):
        read_covariates(adata, None, "age")


@pytest.mark.parametrize("value", ["f", True])
def test_one_label_throughout_is_refused_as_a_covariate_but_not_as_batch(value):
    adata = _wrap(5, sex=[value] * 5)
    with pytest.raises(ValueError, match=rf"covariates: obs\['sex'\] is '{value}' in all 5 cells and says nothing"):
        read_covariates(adata, None, ["sex"])
    assert len(read_covariates(adata, "sex", None)[0].levels["sex"]) == 1


def test_numbers_that_are_complex_or_text_are_refused_in_words():
    with pytest.raises(TypeError, match="holds complex numbers"):
        read_covariates(_wrap(3, t=np.array([1j, 2, 3])), None, "t")
    known = read_covariates(_wrap(3, t=[1.0, 2.0, 3.0]), None, "t")[0]
    with pytest.raises(
        ValueError, match=r"held numbers in the fit, but is .* here, the first value '1.0'. Make it numbers: .*astype"
    ):
        known.conditions(_wrap(3, t=["1.0", "2.0", "3.0"]))


def test_small_differences_of_whole_numbers_and_of_real_ones_count():
    whole = np.arange(3) + 1_700_000_000_000
    for values in (whole, pd.array(whole, dtype="Int64"), [1e-30, 2e-30, 1e-30], [3.3, 3.301, 3.3]):
        known = read_covariates(_wrap(3, t=values), None, "t")[0]
        assert known.scales["t"][1] > 0


def test_values_outside_of_those_of_the_fit_are_taken_to_their_edge(log):
    known, inside = read_covariates(_wrap(4, age=[20.0, 30.0, 40.0, 20.0]), None, "age")
    assert known.ranges == {"age": (20.0, 40.0)}
    found = known.conditions(_wrap(4, age=[20.0, 1000.0, 40.0000001, -3.0]))
    np.testing.assert_array_equal(found.values, inside.values[[0, 2, 2, 0]])
    assert "obs['age'] lies outside of what the model was fitted to, 20 to 40, in 2 of 4 cells" in log.text
    assert "the first being 'cell1' with 1000" in log.text
    log.clear()
    known.conditions(_wrap(2, age=[20.0, 40.0000001]))
    assert not log.records


def test_ranges_are_saved_and_earlier_models_go_without(tmp_path):
    model = small.fitted_to_covariates()
    model.save(tmp_path / "m.scdae")
    assert scdae.DAE.load(tmp_path / "m.scdae").covariates == model.covariates
    known = Covariates(scales={"age": (30.0, 10.0)})
    np.testing.assert_allclose(known.conditions(_wrap(2, age=[130.0, 30.0])).values, [[10.0], [0.0]])


def test_totals_do_not_run_away_with_a_covariate(log):
    adata, model = small.covaried(), small.fitted_to_covariates()
    same = model.impute(adata).sum(axis=1)
    adata.obs["age"] = 5000
    other = model.impute(adata).sum(axis=1)
    assert "obs['age'] lies outside" in log.text
    assert 0.5 < np.median(other / same) < 2


def test_columns_whose_names_are_numbers():
    adata = _wrap(4)
    adata.obs = pd.DataFrame({0: ["x", "y", "x", "y"], 1: [1.0, 2.0, 3.0, 5.0]}, index=adata.obs_names)
    known, conditions = read_covariates(adata, 0, [1])
    assert known.batch_key == "0" and known.others == ["1"]
    adata.obs.columns = ["0", "1"]  # as a file gives them back
    for one, other in zip(conditions, known.conditions(adata), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="batch_key=7 not found in adata.obs. Columns there: '0', '1'"):
        read_batches(adata, 7)


def test_tables_and_misspelt_names_are_refused():
    adata = _wrap(3, age=[1.0, 2.0, 3.0], donor=list("aab"))
    for wrong in (adata.obs["age"], adata.obs[["age"]]):
        with pytest.raises(TypeError, match="covariates is a pandas .* Put its columns into adata.obs"):
            read_covariates(adata, None, wrong)
        with pytest.raises(TypeError, match="batch_key is a pandas"):
            read_covariates(adata, wrong, None)
    with pytest.raises(ValueError, match="batch_key='Donor' not found in adata.obs. Did you mean 'donor'"):
        read_batches(adata, "Donor")
