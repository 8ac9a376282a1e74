"""The simulator against its own truth."""

import numpy as np
import pytest
from scipy import sparse

import scdae
from scdae.datasets import simulate


@pytest.fixture(scope="module")
def adata():
    return simulate(1200, 300, n_types=4, depth=3000, dispersion=0.3, dropout=0.2, seed=3)


def one_profile(**settings):
    """Cells that are draws from one and the same law, which gives moments many repeats."""
    plain = {"n_types": 1, "n_batches": 1, "trajectory": False, "depth_spread": 0, "dispersion": 0, "dropout": 0}
    return simulate(4000, 60, **{**plain, "seed": 5, **settings})


def test_shapes_and_types(adata):
    assert adata.shape == (1200, 300)
    assert isinstance(adata.X, sparse.csr_matrix)
    assert adata.X.dtype == np.float32
    assert adata.X.has_canonical_format
    assert adata.X.data.min() >= 1, "no stored zeros, no negative counts"
    np.testing.assert_array_equal(adata.X.data, np.round(adata.X.data))
    assert adata.layers["truth"].dtype == np.float32
    assert adata.layers["truth"].min() > 0
    assert set(adata.obs["cell_type"].cat.categories) == {"type_1", "type_2", "type_3", "type_4"}
    assert adata.obs["batch"].nunique() == 2


def test_truth_sums_to_the_library_size(adata):
    np.testing.assert_allclose(adata.layers["truth"].sum(axis=1), adata.obs["library_size"], rtol=1e-4)


def test_library_size_has_the_median_and_spread_that_were_asked_for():
    size = np.log(simulate(4000, 20, depth=700, depth_spread=0.5, seed=1).obs["library_size"])
    assert np.median(size) == pytest.approx(np.log(700), abs=0.04)
    assert size.std() == pytest.approx(0.5, abs=0.02)


def test_poisson_moments():
    adata = one_profile()
    x, mean = adata.X.toarray(), adata.layers["truth"][0].astype(float)
    assert np.ptp(adata.layers["truth"], axis=0).max() == 0
    z = (x.mean(axis=0) - mean) / np.sqrt(mean / len(x))
    assert np.abs(z).max() < 4
    # The variance of the sample variance of a Poisson is mean (1 + 2 mean) / n, near enough.
    z = (x.var(axis=0) - mean) / np.sqrt(mean * (1 + 2 * mean) / len(x))
    assert np.abs(z).max() < 4.5


def test_negative_binomial_variance():
    adata = one_profile(dispersion=0.5)
    x, mean = adata.X.toarray(), adata.layers["truth"][0].astype(float)
    expected = mean + mean**2 * adata.var["dispersion"].to_numpy()
    z = (x.mean(axis=0) - mean) / np.sqrt(expected / len(x))
    assert np.abs(z).max() < 4
    ratio = x.var(axis=0) / expected
    assert np.median(ratio) == pytest.approx(1, abs=0.03)
    assert ratio.min() > 0.75
    assert ratio.max() < 1.35
    # and it is told apart from Poisson where that shows
    assert np.all(x.var(axis=0)[mean > 20] > 2 * mean[mean > 20])


def test_dropout_rate():
    adata = one_profile(dropout=0.3, depth=60_000)
    x, mean = adata.X.toarray(), adata.layers["truth"][0].astype(float)
    seen = mean > 30  # a Poisson zero is out of the question there
    assert seen.sum() > 20
    pi = adata.var["dropout"].to_numpy()[seen]
    z = ((x[:, seen] == 0).mean(axis=0) - pi) / np.sqrt(pi * (1 - pi) / len(x))
    assert np.abs(z).max() < 4
    assert adata.var["dropout"].mean() == pytest.approx(0.3, abs=0.08)


def test_markers_are_up_in_their_type(adata):
    truth = adata.layers["truth"] / adata.layers["truth"].sum(axis=1, keepdims=True)
    assert adata.var["marker"].to_numpy().tolist() == (adata.var["marker_of"] != "none").tolist()
    for name in ("type_3", "type_4"):
        genes = (adata.var["marker_of"] == name).to_numpy()
        inside = (adata.obs["cell_type"] == name).to_numpy()
        fold = truth[inside][:, genes].mean(axis=0) / truth[~inside][:, genes].mean(axis=0)
        assert genes.sum() == 12
        assert np.median(fold) > 2.5


def test_trajectory_joins_its_two_ends():
    adata = simulate(800, 200, n_batches=1, n_types=3, seed=2)
    t = adata.obs["pseudotime"].to_numpy()
    on_path = np.isfinite(t)
    assert set(adata.obs["cell_type"][on_path]) == {"type_1", "type_2"}
    assert set(adata.obs["cell_type"][~on_path]) == {"type_3"}
    order = np.argsort(t[on_path])
    profile = adata.layers["truth"][on_path][order]
    profile = np.log(profile / profile.sum(axis=1, keepdims=True))
    neighbors = np.abs(np.diff(profile, axis=0)).mean()
    assert neighbors < 0.05 * np.abs(profile[0] - profile[-1]).mean(), "no jump along the path"
    hump = profile[:, (adata.var["marker_of"] == "trajectory").to_numpy()].mean(axis=1)
    assert hump[len(hump) // 2] > max(hump[0], hump[-1]) + 1


def test_without_a_trajectory_cells_of_a_type_are_alike():
    adata = simulate(300, 50, trajectory=False, n_batches=1, seed=2)
    assert adata.obs["pseudotime"].isna().all()
    assert "trajectory" not in set(adata.var["marker_of"])
    share = adata.layers["truth"] / adata.layers["truth"].sum(axis=1, keepdims=True)
    for _, cells in adata.obs.groupby("cell_type", observed=True).indices.items():
        assert np.ptp(share[cells], axis=0).max() < 1e-6


def test_batch_effect_is_gene_wise_and_optional():
    def spread(batch_effect):
        adata = simulate(400, 200, n_types=1, trajectory=False, batch_effect=batch_effect, n_batches=2, seed=4)
        share = adata.layers["truth"] / adata.layers["truth"].sum(axis=1, keepdims=True)
        one, two = (share[(adata.obs["batch"] == b).to_numpy()][0] for b in ("batch_1", "batch_2"))
        return np.log(one / two).std()

    assert spread(0) < 1e-5
    assert spread(0.3) == pytest.approx(0.3 * np.sqrt(2), rel=0.2)


def test_ambient_molecules_come_from_the_batch_average():
    adata = simulate(400, 100, ambient=0.25, seed=6)
    part, truth = adata.layers["truth_ambient"], adata.layers["truth"]
    np.testing.assert_allclose(part.sum(axis=1), 0.25 * adata.obs["library_size"], rtol=1e-4)
    np.testing.assert_allclose(truth.sum(axis=1), adata.obs["library_size"], rtol=1e-4)
    assert (part < truth).all()
    share = part / part.sum(axis=1, keepdims=True)
    for _, cells in adata.obs.groupby("batch", observed=True).indices.items():
        assert np.ptp(share[cells], axis=0).max() < 1e-6
        own = (truth - part)[cells].sum(axis=0)
        np.testing.assert_allclose(share[cells[0]], own / own.sum(), rtol=1e-4)


def test_same_seed_same_data_and_no_global_state():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - looked at, to show that it does not move
    one, two, other = simulate(50, 40, seed=9), simulate(50, 40, seed=9), simulate(50, 40, seed=10)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.testing.assert_array_equal(one.X.toarray(), two.X.toarray())
    np.testing.assert_array_equal(one.layers["truth"], two.layers["truth"])
    assert one.obs.equals(two.obs)
    assert one.var.equals(two.var)
    assert (one.X != other.X).nnz > 0


def test_goes_through_a_file(tmp_path):
    from anndata import read_h5ad

    adata = simulate(30, 20, seed=1)
    adata.write_h5ad(tmp_path / "simulated.h5ad")
    back = read_h5ad(tmp_path / "simulated.h5ad")
    assert back.uns["simulation"]["depth"] == 1500
    assert dict(back.uns["simulation"]) == adata.uns["simulation"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_cells": 0}, "n_cells must be at least 1, got 0"),
        ({"n_types": 0}, "n_types must be at least 1, got 0"),
        ({"depth": 0}, "depth must be positive"),
        ({"dispersion": -1}, "dispersion must not be negative, got -1"),
        ({"dropout": 1}, "dropout is a share.*got 1"),
        ({"ambient": -0.1}, "ambient is a share.*got -0.1"),
        ({"n_types": 1}, "trajectory=True needs two types.*n_types=1"),
    ],
)
def test_settings_out_of_range(settings, words):
    with pytest.raises(ValueError, match=words):
        simulate(**settings)


def test_few_genes_for_many_programs():
    adata = simulate(20, 4, n_types=6, seed=0)
    assert adata.shape == (20, 4)
    assert np.isfinite(adata.layers["truth"]).all()


@pytest.mark.parametrize("make", [scdae.datasets.simulate, scdae.datasets.simulate_16s])
def test_what_is_no_number_is_named(make):
    numbers = {"seed": 0, **({"n_genera": 3, "divergence": 1.0} if make is scdae.datasets.simulate_16s else {})}
    if make is scdae.datasets.simulate:
        numbers |= {
            "n_cells": 5,
            "n_genes": 5,
            "n_types": 2,
            "n_batches": 1,
            "depth": 9.0,
            "dropout": 0.1,
            "ambient": 0.1,
        }
    for name in numbers:
        for wrong in ("3", float("nan"), float("inf"), True, {}, -1):
            with pytest.raises(ValueError, match=rf"^{name}\b"):
                make(**{**numbers, name: wrong})


def test_whole_floats_are_whole_numbers():
    found = scdae.datasets.simulate(10.0, 6.0, n_types=2.0, seed=1.0)
    assert (found.X != scdae.datasets.simulate(10, 6, n_types=2, seed=1).X).nnz == 0
    assert found.uns["simulation"]["n_cells"] == 10 and isinstance(found.uns["simulation"]["n_cells"], int)
