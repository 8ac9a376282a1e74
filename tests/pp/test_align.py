import numpy as np
import pytest
import scipy.sparse as sp

import scdae
import small


@pytest.fixture
def parts():
    adata = small.structured()
    return adata[:80, :50].copy(), adata[80:, 20:][:, ::-1].copy()


def test_union_of_genes_with_its_mask(parts):
    joint = scdae.pp.align(parts, keys=["a", "b"])
    whole = small.structured()
    assert joint.shape == whole.shape and list(joint.obs["batch"].unique()) == ["a", "b"]
    np.testing.assert_array_equal(np.sort(joint.var_names), np.sort(whole.var_names))
    order = joint[:, whole.var_names]
    observed = np.ones(whole.shape, bool)
    observed[:80, 50:] = False
    observed[80:, :20] = False
    np.testing.assert_array_equal(order.layers["observed"], observed)
    counts = order.X.toarray() if sp.issparse(order.X) else order.X
    np.testing.assert_array_equal(counts, np.where(observed, small.dense(whole), 0))
    np.testing.assert_array_equal(joint.obs_names[:2], [f"{name}-a" for name in whole.obs_names[:2]])
    assert sp.issparse(joint.X) and set(parts[0].layers) <= {"truth", None}


def test_masks_that_are_there_are_kept(parts):
    first, second = parts
    first.layers["seen"] = np.random.default_rng(0).random(first.shape) < 0.5
    joint = scdae.pp.align({"a": first, "b": second}, label="panel", mask_added="seen")
    np.testing.assert_array_equal(joint[:80, first.var_names].layers["seen"], first.layers["seen"])
    assert joint[80:, second.var_names].layers["seen"].all() and "panel" in joint.obs


def test_result_can_be_imputed(parts):
    joint = scdae.pp.align(parts)
    scdae.pp.impute(joint, mask="observed", batch_key="batch", max_epochs=2, batch_size=64)
    assert np.isfinite(joint.layers["scdae"]).all() and (joint.layers["scdae"] > 0).mean() > 0.99


def test_data_sets_that_cannot_be_joined(parts):
    first, second = parts
    with pytest.raises(ValueError, match=r"holds 1 data set\(s\)"):
        scdae.pp.align([first])
    with pytest.raises(ValueError, match="a name of its own"):
        scdae.pp.align(parts, keys=["a", "a"])
    with pytest.raises(ValueError, match="have names already"):
        scdae.pp.align({"a": first, "b": second}, keys=["a", "b"])
    second.var_names = [f"x{i}" for i in range(second.n_vars)]
    with pytest.raises(ValueError, match="share no gene"):
        scdae.pp.align([first, second])
    second.var_names = ["gene_1"] * second.n_vars
    with pytest.raises(ValueError, match="'1' repeats gene names"):
        scdae.pp.align([first, second])
