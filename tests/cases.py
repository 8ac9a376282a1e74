"""Inputs that broke other imputation, denoising and AnnData tools, rebuilt small for our tests.

Each case names the public report it comes from; the data here are simulated.
Typical use, with an adapter for the API:

    @pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
    def test_case(case, tmp_path):
        run_case(case, tmp_path, {"once": run_once, "twice": run_twice, ...})
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp


@dataclass(frozen=True)
class Case:
    """One situation to try.

    id          short unique name
    kind        family of fault
    source      public report that shows a tool or its user in this situation
    build       callable(tmp_path) -> AnnData, (AnnData, AnnData) or Path. Same output at each call.
    expect      'ok' (a result comes back) or 'error' (a clear exception, raised before training)
    properties  what must hold, in words
    check       callable(result, input_copy), raises AssertionError; None where nothing more is asked
    call        options to pass, by meaning (see CALL_KEYS); the test's adapter maps them to the API
    mode        how to run it (see MODES)
    accept      other outcomes that are good enough, e.g. ('error',)
    mentions    for 'error': the message has to hold, for each tuple, at least one of its words
    env         environment variables for mode 'subprocess'
    """

    id: str
    kind: str
    source: str
    build: Callable[[Path], Any]
    expect: str
    properties: str
    check: Callable[[Any, Any], None] | None = None
    call: dict = field(default_factory=dict)
    mode: str = "once"
    accept: tuple = ()
    mentions: tuple = ()
    env: dict = field(default_factory=dict)


CALL_KEYS = {
    "layer": "name of the layer that holds the counts (None: X)",
    "batch_key": "obs column with the batch",
    "allow_fractional": "opt in to non-integer counts, if the API asks for an opt-in",
    "genes": "only these genes are wanted back",
    "out_layer": "name of the output layer",
    "genome": "genome of a file that holds several",
}

MODES = {
    "once": "impute(adata); in-place calls give the same object to check",
    "twice": "impute two separate builds with the same seed; check gets (first, second)",
    "again": "impute the same object two times; check gets (copy after first, object after second)",
    "fit_apply": "build gives (train, query): fit on train, apply to query; check gets query's result",
    "save_load": "fit, save, load in a fresh process, apply to the same data; check gets (before, after)",
    "cli": "build gives a path: run the command, check gets the AnnData read from the output",
    "cli_parallel": "build gives a folder: run one command for each input at the same time, "
    "all from that folder; check gets a dict {input path: AnnData read from its output}",
    "subprocess": "as 'once', in a new process with env set, stdout and stderr going to a file; "
    "check gets {'result': AnnData, 'log': text of that file}",
}

# Names of the output layer and of the latent space. None: whatever is new in the result.
OUT_LAYER: str | None = None
OUT_OBSM: str | None = None
_KEEP: dict = {}


# ---------------------------------------------------------------- data


def counts(n=120, g=60, seed=0, groups=3, depth=1500.0, spread=0.4, shape=4.0):
    """Overdispersed counts (n x g, int64) with `groups` cell types, and the type of each cell."""
    rng = np.random.default_rng(seed)
    base = rng.gamma(0.8, 1.0, g) + 0.02
    prof = base * np.exp(rng.normal(0, 0.9, (groups, g)))
    prof /= prof.sum(1, keepdims=True)
    lab = np.arange(n) % groups
    rng.shuffle(lab)
    size = depth * np.exp(rng.normal(0, spread, n))
    mu = size[:, None] * prof[lab]
    return rng.poisson(rng.gamma(shape, 1.0 / shape, mu.shape) * mu), lab


def barcodes(n, seed=0, suffix="-1"):
    rng = np.random.default_rng(seed + 9000)
    seen, out = set(), []
    while len(out) < n:
        s = "".join(rng.choice(list("ACGT"), 12)) + suffix
        if s not in seen:
            seen.add(s)
            out.append(s)
    return out


def genes(g, prefix="G"):
    return [f"{prefix}{i:03d}" for i in range(g)]


def wrap(x, seed=0, var=None, obs=None, **kw):
    n, g = x.shape
    obs = pd.DataFrame(index=barcodes(n, seed)) if obs is None else obs
    var = pd.DataFrame(index=genes(g)) if var is None else var
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ad.AnnData(X=x, obs=obs, var=var, **kw)


def basic(n=120, g=60, seed=0, fmt=sp.csr_matrix, dtype=np.float32, **kw):
    x, lab = counts(n, g, seed, **kw)
    a = wrap(fmt(x.astype(dtype)) if fmt is not None else x.astype(dtype), seed)
    a.obs["type"] = pd.Categorical([f"t{i}" for i in lab])
    return a


def lognorm(x, target=1e4):
    x = np.asarray(x, dtype=np.float64)
    return np.log1p(x / np.maximum(x.sum(1, keepdims=True), 1) * target).astype(np.float32)


def dense(m):
    if m is None:
        return None
    if hasattr(m, "compute"):
        m = m.compute()
    if hasattr(m, "to_memory"):
        m = m.to_memory()
    if sp.issparse(m):
        m = m.toarray()
    return np.asarray(m)


def write_10x_v3(path, x, names, ids, types, bcs, genome="GRCh38", drop=(), extra=None):
    m = sp.csc_matrix(np.asarray(x).T.astype(np.int32))
    with h5py.File(path, "w") as f:
        g = f.create_group("matrix")
        g["barcodes"] = np.array(bcs, dtype="S")
        g["data"], g["indices"], g["indptr"] = m.data, m.indices, m.indptr
        g["shape"] = np.array(m.shape, dtype=np.int32)
        h = g.create_group("features")
        cols = {
            "id": ids,
            "name": names,
            "feature_type": types,
            "genome": [genome] * len(ids),
        }
        for k, v in cols.items():
            if k not in drop:
                h[k] = np.array(v, dtype="S")
        for k, v in (extra or {}).items():
            g[k] = v
    return Path(path)


def write_10x_v2(path, per_genome, bcs):
    with h5py.File(path, "w") as f:
        for genome, (x, names, ids) in per_genome.items():
            m = sp.csc_matrix(np.asarray(x).T.astype(np.int32))
            g = f.create_group(genome)
            g["barcodes"] = np.array(bcs, dtype="S")
            g["data"], g["indices"], g["indptr"] = m.data, m.indices, m.indptr
            g["shape"] = np.array(m.shape, dtype=np.int32)
            g["genes"] = np.array(ids, dtype="S")
            g["gene_names"] = np.array(names, dtype="S")
    return Path(path)


# ---------------------------------------------------------------- checks


def imputed(result, before=None):
    if OUT_LAYER is not None:
        assert OUT_LAYER in result.layers, f"no layer {OUT_LAYER!r}"
        return dense(result.layers[OUT_LAYER])
    old = set() if before is None else set(before.layers.keys())
    new = [k for k in result.layers.keys() if k is not None and k not in old]
    assert len(new) == 1, f"set OUT_LAYER: new layers are {new}"
    return dense(result.layers[new[0]])


def latent(result, before=None):
    if OUT_OBSM is not None:
        assert OUT_OBSM in result.obsm, f"no obsm {OUT_OBSM!r}"
        return np.asarray(result.obsm[OUT_OBSM])
    old = set() if before is None else set(before.obsm.keys())
    new = [k for k in result.obsm.keys() if k not in old]
    assert len(new) == 1, f"set OUT_OBSM: new obsm are {new}"
    return np.asarray(result.obsm[new[0]])


def same_matrix(a, b, what):
    assert (a is None) == (b is None), what
    if a is None:
        return
    assert a.dtype == b.dtype, f"{what}: dtype {b.dtype} -> {a.dtype}"
    da, db = dense(a), dense(b)
    assert da.shape == db.shape and np.array_equal(da, db, equal_nan=da.dtype.kind == "f"), f"{what} changed"


def unchanged(result, before):
    """Everything that was there before the call is there after it, as it was."""
    assert list(result.obs_names) == list(before.obs_names), "obs_names changed"
    assert list(result.var_names) == list(before.var_names), "var_names changed"
    if before.X is not None:
        same_matrix(result.X, before.X, "X")
        if sp.issparse(before.X):
            assert sp.issparse(result.X) and result.X.format == before.X.format, "format of X changed"
    else:
        assert result.X is None, "X appeared"
    for k in before.layers.keys():
        if k is not None:
            same_matrix(result.layers[k], before.layers[k], f"layer {k!r}")
    if before.raw is not None:
        same_matrix(result.raw.X, before.raw.X, "raw")
    for c in before.obs.columns:
        pd.testing.assert_series_equal(result.obs[c], before.obs[c])
    for c in before.var.columns:
        pd.testing.assert_series_equal(result.var[c], before.var[c])


def sane(result, before, positive=True):
    """Shape, dtype, finite, not negative, not all zero; latent space with a row for each cell."""
    y = imputed(result, before)
    assert y.shape == (before.n_obs, before.n_vars), y.shape
    assert y.dtype.kind == "f", y.dtype
    assert np.isfinite(y).all(), "imputed values are not all finite"
    assert (y >= 0).all(), "negative imputed values"
    if positive:
        assert y.sum() > 0, "all imputed values are zero"
    z = latent(result, before)
    assert z.ndim == 2 and z.shape[0] == before.n_obs and z.shape[1] >= 1, z.shape
    assert np.isfinite(z).all(), "latent space is not all finite"
    return y


def ok(result, before):
    y = sane(result, before)
    unchanged(result, before)
    return y


def depth_kept(y, x, low=0.5, high=2.0):
    """Imputed values are expected counts: a cell's total stays near its own total."""
    a, b = y.sum(1), np.asarray(x, dtype=np.float64).sum(1)
    keep = b > 0
    r = a[keep] / b[keep]
    assert low < np.median(r) < high, f"median ratio of totals {np.median(r):.3g}: other scale"
    assert (r > low / 2).all() and (r < high * 2).all(), f"totals off by {r.min():.3g} to {r.max():.3g}"


def gene_order_kept(y, x, rho=0.8):
    """Means by gene are those of the same gene in the input."""
    m = np.asarray(x, dtype=np.float64).mean(0)
    u = m > 0
    c = np.corrcoef(np.log(m[u] + 1e-3), np.log(y.mean(0)[u] + 1e-3))[0, 1]
    assert c > rho, f"gene means do not follow the input (r = {c:.2f})"


def message_ok(case, exc):
    text = str(exc).lower()
    assert len(text) > 15, f"message says nothing: {exc!r}"
    for words in case.mentions:
        assert any(w.lower() in text for w in words), f"message lacks any of {words}: {exc}"


def run_case(case, tmp_path, do):
    """Run a case. `do` maps each mode to callable(built, **call) -> what check gets as result."""
    tmp_path = Path(tmp_path)
    for d in ("before", "run"):
        (tmp_path / d).mkdir(parents=True, exist_ok=True)
    before = case.build(tmp_path / "before")
    obj = case.build(tmp_path / "run")
    allowed = (case.expect, *case.accept)
    try:
        result = do[case.mode](obj, **case.call)
    except Exception as exc:
        if "error" not in allowed:
            raise
        if case.expect == "error":
            message_ok(case, exc)
        return exc
    assert "ok" in allowed, f"{case.id}: an error was expected"
    if case.check is not None:
        case.check(result, before)
    return result


# ---------------------------------------------------------------- what counts as counts


def log1p_x(tmp):
    x, _ = counts(seed=1)
    a = wrap(sp.csr_matrix(lognorm(x)), 1)
    a.uns["log1p"] = {}
    return a


def fractional(tmp):
    x, _ = counts(seed=2)
    rng = np.random.default_rng(2)
    share = rng.choice([0.0, 0.25, 1 / 3, 0.5], x.shape, p=[0.8, 0.08, 0.06, 0.06])
    return wrap(sp.csr_matrix(np.where(x > 0, x - share, 0).astype(np.float32)), 2)


def check_fractional(r, b):
    y = ok(r, b)
    depth_kept(y, dense(b.X))


def nan_after_join(tmp):
    x, _ = counts(seed=3)
    x = x.astype(np.float32)
    x[70:, 40:] = np.nan  # genes that the second data set did not measure
    a = wrap(x, 3)
    a.obs["batch"] = pd.Categorical(["a"] * 70 + ["b"] * 50)
    return a


def float_ints(tmp):
    return basic(seed=4, dtype=np.float32)


def late_lognorm(tmp):
    x, _ = counts(n=250, seed=5)
    x = x.astype(np.float32)
    x[220:] = lognorm(x[220:])  # the last donor came log-normalised
    return wrap(sp.csr_matrix(x), 5)


# ---------------------------------------------------------------- empty genes and cells


def zero_genes(tmp):
    x, _ = counts(g=65, seed=6)
    x[:, [0, 7, 8, 33, 64]] = 0
    return wrap(sp.csr_matrix(x.astype(np.float32)), 6)


def check_zero_genes(r, b):
    y = ok(r, b)
    off = dense(b.X).sum(0) == 0
    assert off.sum() == 5 and y.shape[1] == 65
    assert y[:, off].max() <= 0.01 * y[:, ~off].mean(), "values appeared for genes that were never seen"


def mostly_empty_cells(tmp):
    x, _ = counts(n=300, seed=7)
    x[120:] = 0  # 60% of the droplets hold nothing: the median total is 0
    return wrap(sp.csr_matrix(x.astype(np.float32)), 7)


def check_mostly_empty(r, b):
    y = ok(r, b)
    depth_kept(y[:120], dense(b.X)[:120])


def all_zero(tmp):
    return wrap(sp.csr_matrix((80, 30), dtype=np.float32), 8)


# ---------------------------------------------------------------- small and odd shapes


def one_left_over(tmp):
    return basic(n=257, seed=9)  # 257 = 2 * 128 + 1 = 8 * 32 + 1 = 4 * 64 + 1


def single_cell(tmp):
    x, _ = counts(3, 50, 10, groups=1)
    return wrap(sp.csr_matrix(x[:1].astype(np.float32)), 10)


def single_gene(tmp):
    x, _ = counts(90, 20, 11)
    return wrap(x[:, 3:4].astype(np.float32), 11)


def lonely_batch(tmp):
    a = basic(n=121, seed=12)
    a.obs["lane"] = pd.Categorical(["L1"] * 70 + ["L2"] * 50 + ["L3"])
    return a


# ---------------------------------------------------------------- extreme values


def dominant_gene(tmp):
    x, _ = counts(seed=13, depth=800)
    rng = np.random.default_rng(13)
    x[:, 4] = rng.poisson(6000 * np.exp(rng.normal(0, 0.6, 120)))
    x[17, 4] = 500_000
    a = wrap(sp.csr_matrix(x.astype(np.float32)), 13)
    a.var_names = ["MALAT1" if i == 4 else v for i, v in enumerate(a.var_names)]
    return a


def check_dominant(r, b):
    y = ok(r, b)
    x = dense(b.X)
    rest = [i for i in range(60) if i != 4]
    assert (y[:, rest].sum(1) > 0).all(), "the dominant gene took everything"
    gene_order_kept(np.delete(y, 17, 0)[:, rest], np.delete(x, 17, 0)[:, rest], rho=0.7)


def identical_cells(tmp):
    x, _ = counts(n=2, seed=14, groups=1)
    return wrap(sp.csr_matrix(np.repeat(x[:1], 120, axis=0).astype(np.float32)), 14)


def check_identical(r, b):
    y = ok(r, b)
    assert np.allclose(y, y[:1], rtol=0.05, atol=1e-3), "equal cells got different values"


# ---------------------------------------------------------------- dtypes and containers


def int64_dense(tmp):
    x, _ = counts(seed=15)
    return wrap(x.astype(np.int64), 15)


def csc_input(tmp):
    return basic(seed=16, fmt=sp.csc_matrix, dtype=np.int32)


def check_scale(r, b):
    y = ok(r, b)
    depth_kept(y, dense(b.X))
    gene_order_kept(y, dense(b.X))


def backed_sparse(tmp):
    p = Path(tmp) / "backed.h5ad"
    if not p.exists():
        basic(seed=17).write_h5ad(p)
    return ad.read_h5ad(p, backed="r")


def check_backed(r, b):
    sane(r, b)
    with h5py.File(b.filename, "r") as f:
        assert set(f["layers"].keys()) == set(), "the file opened read-only was written to"


def dask_dense(tmp):
    import dask.array as da

    x, _ = counts(seed=18)
    return wrap(da.from_array(x.astype(np.float32), chunks=(30, 60)), 18)


def read_only(tmp):
    x, _ = counts(seed=19)
    x = x.astype(np.float32)
    x.flags.writeable = False
    a = wrap(x, 19)
    a.X.flags.writeable = False
    return a


def non_canonical(tmp):
    """Row entries out of order, and entries that come in two parts to be added."""
    x, _ = counts(seed=20)
    rng = np.random.default_rng(20)
    data, ind, ptr = [], [], [0]
    for row in x:
        j = np.flatnonzero(row)
        part = row[j] // 2
        jj, vv = np.r_[j, j], np.r_[part, row[j] - part]
        o = rng.permutation(jj.size)
        data.append(vv[o])
        ind.append(jj[o])
        ptr.append(ptr[-1] + jj.size)
    m = sp.csr_matrix(x.shape, dtype=np.float32)
    m.data = np.concatenate(data).astype(np.float32)
    m.indices = np.concatenate(ind).astype(np.int32)
    m.indptr = np.array(ptr, dtype=np.int32)
    m.has_sorted_indices = False
    m.has_canonical_format = False
    _KEEP["non_canonical"] = x
    return wrap(m, 20)


def check_non_canonical(r, b):
    y = sane(r, b)
    x = _KEEP["non_canonical"]
    assert np.array_equal(dense(b.X), x)
    depth_kept(y, x)
    gene_order_kept(y, x)


# ---------------------------------------------------------------- structure and names


def a_view(tmp):
    a = basic(n=180, seed=21)
    _KEEP["a_view"] = a
    return a[a.obs["type"] != "t1"]


def check_view(r, b):
    sane(r, b)
    parent = _KEEP["a_view"]
    assert parent.n_obs == 180 and not [k for k in parent.layers.keys() if k is not None], "parent was written to"
    same_matrix(parent.X, basic(n=180, seed=21).X, "X of the parent")


def dup_genes(tmp):
    a = basic(seed=22)
    names = list(a.var_names)
    names[5] = names[4]
    names[20] = names[19] = "TBCE"
    a.var_names = names
    return a


def only_in_raw(tmp):
    x, _ = counts(seed=23)
    full = wrap(sp.csr_matrix(x.astype(np.float32)), 23)
    a = full[:, :25].copy()
    z = lognorm(x)[:, :25]
    a.X = ((z - z.mean(0)) / (z.std(0) + 1e-6)).astype(np.float32)
    a.raw = full
    return a


def no_such_layer(tmp):
    a = basic(seed=24)
    a.layers["spliced_counts"] = a.X.copy()
    return a


def int_names(tmp):
    x, lab = counts(seed=25)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a = ad.AnnData(
            sp.csr_matrix(x.astype(np.float32)),
            obs=pd.DataFrame({0: lab, "n": x.sum(1)}, index=np.arange(120)),
            var=pd.DataFrame({1: np.arange(60)}, index=np.arange(1000, 1060)),
        )
    return a


def int_batch(tmp):
    a = basic(seed=26)
    a.obs["run"] = np.where(np.arange(120) % 3 == 0, 20240117, 7)
    return a


def unused_levels(tmp):
    a = basic(seed=27)
    a.obs["donor"] = pd.Categorical(np.tile(["d1", "d3"], 60), categories=["d0", "d1", "d2", "d3", "d9"])
    assert len(a.obs["donor"].cat.categories) == 5
    return a


def counts_alias(tmp):
    """layers['counts'] is the very object X, as after adata.layers['counts'] = adata.X."""
    a = basic(seed=28)
    a.layers["counts"] = a.X
    a.raw = a
    return a


# ---------------------------------------------------------------- running it again, side effects


def plain(tmp):
    return basic(seed=29)


def check_twice(rs, b):
    y = [ok(r, b) for r in rs]
    z = [latent(r, b) for r in rs]
    assert np.array_equal(y[0], y[1]), f"differ by up to {np.abs(y[0] - y[1]).max():.3g}"
    assert np.array_equal(z[0], z[1]), "latent spaces differ"


def check_roundtrip(r, b):
    import tempfile

    ok(r, b)
    with tempfile.TemporaryDirectory() as d:
        r.write_h5ad(Path(d) / "r.h5ad")
        r.write_zarr(Path(d) / "r.zarr")
        for q in (ad.read_h5ad(Path(d) / "r.h5ad"), ad.read_zarr(Path(d) / "r.zarr")):
            assert np.array_equal(imputed(q, b), imputed(r, b))
            assert set(q.uns) == set(r.uns)


def taken_layer(tmp):
    a = basic(seed=30)
    a.layers["imputed"] = np.full(a.shape, 7.0, dtype=np.float32)
    return a


def check_taken(r, b):
    y = dense(r.layers["imputed"])
    if not np.array_equal(y, dense(b.layers["imputed"])):
        assert np.isfinite(y).all() and (y >= 0).all() and y.shape == b.shape


# ---------------------------------------------------------------- what the values mean


def two_depths(tmp):
    """Same cell types sequenced ten times deeper in half of the cells."""
    x1, _ = counts(n=60, seed=31, depth=400, spread=0.2)
    x2, _ = counts(n=60, seed=31, depth=4000, spread=0.2)
    return wrap(sp.csr_matrix(np.vstack([x1, x2]).astype(np.float32)), 31)


def check_two_depths(r, b):
    y = ok(r, b)
    x = dense(b.X)
    depth_kept(y, x)
    c = np.corrcoef(np.log(y.sum(1)), np.log(x.sum(1)))[0, 1]
    assert c > 0.9, f"totals do not follow the depth of the cells (r = {c:.2f})"
    gene_order_kept(y, x)


def markers(tmp):
    x, lab = counts(n=200, seed=32, groups=2, depth=2500)
    rng = np.random.default_rng(32)
    for j in range(4):
        x[:, j] = np.where(lab == 0, rng.poisson(12.0, 200) * (rng.random(200) > 0.3), 0)
    a = wrap(sp.csr_matrix(x.astype(np.float32)), 32)
    a.obs["type"] = pd.Categorical([f"t{i}" for i in lab])
    return a


def check_markers(r, b):
    y = ok(r, b)
    on = (b.obs["type"] == "t0").to_numpy()
    for j in range(4):
        assert y[~on, j].mean() < 0.25 * y[on, j].mean(), "a silent marker gene was switched on"
        hole = on & (dense(b.X)[:, j] == 0)
        assert np.median(y[hole, j]) > y[~on, j].mean(), "drop-outs were not filled"


def low_counts(tmp):
    """Poisson counts with low means: many zeros, and none of them needs a dropout process."""
    x, lab = counts(n=220, seed=44, groups=2, depth=60, spread=0.2, shape=1e6)
    a = wrap(sp.csr_matrix(x.astype(np.float32)), 44)
    a.obs["type"] = pd.Categorical([f"t{i}" for i in lab])
    return a


def check_low_counts(r, b):
    y = ok(r, b)
    x = dense(b.X)
    seen = x.sum(0) > 100
    ratio = y.sum(0)[seen] / x.sum(0)[seen]
    assert (ratio > 0.6).all() and (ratio < 1.6).all(), f"gene totals off by {ratio.min():.2f} to {ratio.max():.2f}"


# ---------------------------------------------------------------- files and jobs


def tenx_with_antibodies(tmp):
    x, _ = counts(g=64, seed=33)
    bcs = barcodes(120, 33)
    names = genes(60) + ["CD3_TotalSeqB", "CD19_TotalSeqB", "HTO-1", "HTO-2"]
    types = ["Gene Expression"] * 60 + ["Antibody Capture"] * 4
    x[:, 60:] *= 30
    ids = [f"ENSG{i:011d}" for i in range(60)] + names[60:]
    return write_10x_v3(Path(tmp) / "sample.h5", x, names, ids, types, bcs)


def check_tenx(r, b):
    assert r.n_obs == 120 and r.n_vars in (60, 64)
    assert list(r.obs_names) == barcodes(120, 33)
    y = imputed(r)
    if r.n_vars == 60:
        assert np.isfinite(y).all() and (y >= 0).all()


def truncated(tmp):
    p = Path(tmp) / "cut.h5ad"
    basic(seed=34).write_h5ad(p)
    raw = p.read_bytes()
    p.write_bytes(raw[: int(len(raw) * 0.6)])
    return p


def molecule_info(tmp):
    p = Path(tmp) / "molecule_info.h5"
    rng = np.random.default_rng(35)
    with h5py.File(p, "w") as f:
        f["barcodes"] = np.array(barcodes(30, 35, ""), dtype="S")
        f["barcode_idx"] = rng.integers(0, 30, 400).astype("u8")
        f["feature_idx"] = rng.integers(0, 12, 400).astype("u4")
        f["umi"] = rng.integers(0, 4**10, 400).astype("u4")
        f["count"] = rng.integers(1, 9, 400).astype("u4")
        g = f.create_group("features")
        g["id"] = np.array(genes(12), dtype="S")
        g["name"] = np.array(genes(12), dtype="S")
    return p


def same_stem_jobs(tmp):
    for i, d in enumerate(["donor1", "donor2"]):
        (Path(tmp) / d).mkdir(parents=True, exist_ok=True)
        basic(seed=36 + i).write_h5ad(Path(tmp) / d / "filtered.h5ad")
    return Path(tmp)


def check_jobs(rs, folder):
    assert len(rs) == 2
    for p, r in rs.items():
        b = ad.read_h5ad(p)
        sane(r, b)
        unchanged(r, b)


def zarr_input(tmp):
    p = Path(tmp) / "sample.zarr"
    basic(seed=40).write_zarr(p)
    return p


def check_file(r, path):
    b = ad.read_zarr(path) if str(path).endswith(".zarr") else ad.read_h5ad(path)
    sane(r, b)
    unchanged(r, b)


def transposed(tmp):
    x, _ = counts(seed=41)
    a = wrap(
        sp.csr_matrix(x.T.astype(np.float32)),
        41,
        obs=pd.DataFrame(index=[f"ENSG{i:011d}" for i in range(60)]),
        var=pd.DataFrame(index=barcodes(120, 41)),
    )
    return a


# ---------------------------------------------------------------- new data for a trained model


def shuffled_genes(tmp):
    train = basic(seed=42)
    q = train[:60].copy()
    order = np.random.default_rng(42).permutation(60)
    _KEEP["shuffled_genes"] = order
    return train, q[:, order].copy()


def check_shuffled(r, pair):
    b = pair[1]
    y = ok(r, b)
    gene_order_kept(y, dense(b.X), rho=0.85)


def check_save_load(rs, b):
    y = [sane(r, b) for r in rs]
    assert np.allclose(y[0], y[1], rtol=1e-5, atol=1e-6), "the loaded model gives other values"


# ---------------------------------------------------------------- size


def wide_sparse(tmp):
    """Dense float64 copies of this would take 0.8 GB each; the counts themselves take 4 MB."""
    rng = np.random.default_rng(43)
    n, g, k = 4000, 25000, 120
    rows = np.repeat(np.arange(n), k)
    cols = (g * rng.beta(0.6, 6.0, n * k)).astype(np.int64) % g
    m = sp.coo_matrix((rng.integers(1, 4, n * k), (rows, cols)), shape=(n, g)).tocsr()
    m.sum_duplicates()
    a = ad.AnnData(
        m.astype(np.float32),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]),
        var=pd.DataFrame(index=[f"g{i}" for i in range(g)]),
    )
    return a


def check_quiet(d, b):
    sane(d["result"], b)
    log = d["log"]
    assert "\r" not in log, "progress bar drawn into a log file"
    assert len(log.splitlines()) < 150, f"{len(log.splitlines())} lines in the log of a tiny run"


GH = "https://github.com/"

# fmt: off
CASES = [
    Case("val-log1p", "not counts", GH + "scverse/scanpy/issues/763", log1p_x, "error",
         "X is log-normalised (uns['log1p'] says so, values are small fractions). Stop before training, "
         "say that X does not look like counts, name layers or raw that do, and the option to choose them.",
         mentions=(("count", "integer"), ("layer", "log", "normal"))),
    Case("val-fractional", "not counts", GH + "satijalab/sctransform/issues/28", fractional, "ok",
         "Fractional estimated counts (alevin, salmon, EM of STARsolo) are legitimate: accepted, at most "
         "after an opt-in, with one warning and not one per cell or gene; totals are kept, values are not "
         "rounded behind the user's back in the stored input.",
         check_fractional, call={"allow_fractional": True}),
    Case("val-nan-outer-join", "non-finite", GH + "scverse/anndata/issues/365", nan_after_join, "error",
         "Genes that one batch lacks are NaN after an outer join. Say how many NaN, in which genes or "
         "cells, and the fix (inner join, or fill with 0).",
         mentions=(("nan", "finite", "missing"),)),
    Case("val-float-ints", "not counts", GH + "YosefLab/scib-metrics/issues/133", float_ints, "ok",
         "Whole numbers stored as float32 are counts: no warning, no error, X keeps its dtype.", check_scale),
    Case("val-late-lognorm", "not counts", GH + "theislab/dca/issues/20", late_lognorm, "error",
         "Only the last 30 of 250 cells are not counts. A check of the first rows misses them: check all "
         "values, and say where they are.",
         mentions=(("count", "integer"),)),
    Case("zero-genes", "empty genes or cells", GH + "theislab/dca/issues/28", zero_genes, "ok",
         "Genes without any count stay in the result, in place, with finite values of about 0; other "
         "genes are not touched by their presence.", check_zero_genes),
    Case("zero-cells-majority", "empty genes or cells", GH + "scverse/scanpy/issues/4251", mostly_empty_cells,
         "ok", "Most droplets are empty, the median total is 0: no division by zero, cells with counts get "
         "values on their own scale, empty cells finite ones. A clear error that asks to filter is fine too.",
         check_mostly_empty, accept=("error",)),
    Case("zero-all", "empty genes or cells", GH + "broadinstitute/Drop-seq/pull/454", all_zero, "error",
         "No count at all: say so, instead of training to NaN.",
         mentions=(("zero", "empty", "no count", "0 "),)),
    Case("shape-batch-of-one", "shape", GH + "scverse/scvi-tools/issues/426", one_left_over, "ok",
         "The last minibatch would hold one cell, whatever the usual batch size: no error, no NaN, every "
         "cell has a result.", check_scale),
    Case("shape-one-cell", "shape", GH + "scverse/scvi-tools/issues/3035", single_cell, "error",
         "One cell cannot train a model: say that, with the least number of cells.",
         mentions=(("cell",),), accept=("ok",)),
    Case("shape-one-gene", "shape", GH + "scverse/anndata/issues/500", single_gene, "error",
         "One gene: a clear error, or a result of shape (n, 1); never a flattened array.",
         mentions=(("gene",),), accept=("ok",)),
    Case("shape-lonely-batch", "batch key", GH + "scverse/scvi-tools/issues/681", lonely_batch, "ok",
         "A batch level with one cell: finite results, at most a warning that names the level.",
         check_scale, call={"batch_key": "lane"}),
    Case("ext-dominant-gene", "extreme values", GH + "scverse/scvi-tools/issues/727", dominant_gene, "ok",
         "One gene takes most of the counts, up to 5e5 in a cell: finite loss and values, other genes keep "
         "theirs.", check_dominant),
    Case("ext-identical-cells", "extreme values", GH + "KrishnaswamyLab/MAGIC/issues/206", identical_cells, "ok",
         "All cells are equal, every gene has variance 0: no 0/0 in scaling, equal cells get equal values.",
         check_identical),
    Case("type-int64-dense", "dtype or container", GH + "scverse/scanpy/issues/2500", int64_dense, "ok",
         "Dense int64: no casting error, X stays int64, output float.", check_scale),
    Case("type-csc", "dtype or container", GH + "theislab/scvelo/issues/533", csc_input, "ok",
         "CSC int32: same quality as CSR, X stays CSC.", check_scale),
    Case("type-backed", "dtype or container", GH + "scverse/scanpy/issues/860", backed_sparse, "ok",
         "File opened with backed='r': works without writing to the file, or says to call .to_memory().",
         check_backed, accept=("error",)),
    Case("type-dask", "dtype or container", GH + "scverse/anndata/issues/696", dask_dense, "ok",
         "Dask array in X: works block by block, or an error that names dask and .to_memory()/.compute().",
         sane, accept=("error",)),
    Case("type-read-only", "side effects", GH + "scverse/squidpy/issues/863", read_only, "ok",
         "Memory that cannot be written to (mmap, joblib): the input is never written to, so it works.", check_scale),
    Case("type-non-canonical-csr", "dtype or container", GH + "chanzuckerberg/single-cell-curation/pull/602",
         non_canonical, "ok", "Unsorted indices and split entries mean the same matrix: same results as for its "
         "canonical form. Counting nnz or taking data[] by position is wrong here.", check_non_canonical),
    Case("ann-view", "AnnData structure", GH + "scverse/scanpy/pull/1014", a_view, "ok",
         "A view comes in: the result has the view's cells, the parent is not changed.", check_view),
    Case("ann-duplicate-genes", "names", GH + "scverse/anndata/issues/580", dup_genes, "ok",
         "Repeated gene names: works by position with one warning and leaves the names alone, or an error "
         "with the first repeated names and var_names_make_unique().", ok, accept=("error",)),
    Case("ann-only-raw", "not counts", GH + "scverse/SnapATAC2/issues/149", only_in_raw, "error",
         "X is scaled (negative values), the counts are in .raw with more genes. Say that X has negative "
         "values and that .raw holds counts, and how to use them; do not switch to raw silently.",
         mentions=(("negative", "count"), ("raw",))),
    Case("ann-no-such-layer", "AnnData structure", GH + "theislab/scvelo/issues/1", no_such_layer, "error",
         "The layer does not exist: name it and list those that do.",
         call={"layer": "spliced"}, mentions=(("spliced_counts",),)),
    Case("ann-int-names", "names", GH + "scverse/anndata/issues/84", int_names, "ok",
         "Numbers as cell names, gene names and column names: no lookup by label goes wrong; the result is in "
         "the order of the input.", check_scale),
    Case("ann-int-batch", "batch key", GH + "scverse/scvi-tools/issues/731", int_batch, "ok",
         "Batch labels are numbers such as dates: levels, not sizes of a table or a regressor.",
         check_scale, call={"batch_key": "run"}),
    Case("ann-unused-levels", "batch key", GH + "scverse/scvi-tools/issues/3770", unused_levels, "ok",
         "Categorical with levels that no cell has any more: ignored; obs column not changed.",
         check_scale, call={"batch_key": "donor"}),
    Case("ann-shared-memory", "side effects", GH + "scverse/scanpy/issues/3073", counts_alias, "ok",
         "X, layers['counts'] and raw share memory: all three hold the same counts after the call.",
         check_scale, call={"layer": "counts"}),
    Case("run-same-seed", "reproducibility", GH + "scverse/scvi-tools/issues/3611", plain, "ok",
         "Same data, same seed, same device: bit for bit the same values and latent space.",
         check_twice, mode="twice"),
    Case("run-write-result", "writing results", GH + "scverse/scvi-tools/issues/792", plain, "ok",
         "What is put into layers, obsm and uns can be written to h5ad and zarr and read back equal: plain "
         "str, numbers, arrays; no None, no model objects, no keys with '/'.", check_roundtrip),
    Case("run-layer-taken", "running again", GH + "scverse/scanpy/issues/3937", taken_layer, "error",
         "The output layer exists and is the user's: not lost in silence. An error with the two ways out "
         "(other name, overwrite option), or overwritten with a warning.",
         check_taken, call={"out_layer": "imputed"}, accept=("ok",), mentions=(("imputed",),)),
    Case("mean-scale", "meaning of the output", GH + "theislab/dca/issues/67", two_depths, "ok",
         "Output is expected counts of each cell at its own depth: not log, not per 1e4, deep cells stay "
         "deep. The docs and uns say which scale it is.", check_two_depths),
    Case("mean-silent-markers", "meaning of the output", GH + "KlugerLab/ALRA/issues/20", markers, "ok",
         "A marker of one type stays silent in the other, and its drop-outs are filled: no over-imputation, "
         "no untouched zeros.", check_markers),
    Case("mean-no-dropout", "meaning of the output", GH + "theislab/dca/issues/35", low_counts, "ok",
         "Sparse counts without zero inflation: gene totals of the output match the input; a zero-inflated "
         "likelihood must not explain zeros away and raise the means.", check_low_counts),
    Case("file-10x-antibodies", "files", GH + "scverse/scanpy/issues/2398", tenx_with_antibodies, "ok",
         "10x v3 .h5 with antibody tags: only genes go into the model; the log says how many features of "
         "which type were left out; cells in the file's order.", check_tenx, mode="cli"),
    Case("file-truncated", "files", GH + "IGS/gEAR/issues/628", truncated, "error",
         "File cut short by a failed copy: exit code not 0, one line that names the file and says that it "
         "cannot be read, no output file left behind.", mode="cli", mentions=(("cut.h5ad",),)),
    Case("file-molecule-info", "files", GH + "scverse/scanpy/issues/2149", molecule_info, "error",
         "The wrong 10x file: say that it holds no count matrix, and which file to use "
         "(filtered_feature_bc_matrix.h5).", mode="cli",
         mentions=(("molecule_info",), ("matrix", "count"))),
    Case("file-zarr", "files", GH + "scverse/anndata/issues/596", zarr_input, "ok",
         "A zarr store (a folder) is an input as any other.", check_file, mode="cli"),
    Case("job-same-folder", "batch jobs", GH + "broadinstitute/CellBender/issues/241", same_stem_jobs, "ok",
         "Jobs at the same time from one folder, inputs with the same file name: no shared scratch or "
         "checkpoint file, no mixed results.", check_jobs, mode="cli_parallel"),
    Case("job-log-file", "batch jobs", GH + "scverse/scvi-tools/issues/2933", plain, "ok",
         "Output goes to a file: no carriage returns, one line per some epochs, no repeated warnings.",
         check_quiet, mode="subprocess", env={"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}),
    Case("in-transposed", "shape", GH + "theislab/dca/issues/11", transposed, "error",
         "Genes in rows: obs names are Ensembl ids, var names barcodes. Say that it looks transposed and "
         "give the fix (adata.T); a clear warning is enough.",
         accept=("ok",), mentions=(("transpos", "rows", "orientation"),)),
    Case("new-gene-order", "new data", GH + "scverse/scvi-tools/issues/849", shuffled_genes, "ok",
         "New data with the same genes in another order: matched by name, result in the order of the new "
         "data; never by position.", check_shuffled, mode="fit_apply"),
    Case("new-save-load", "new data", GH + "scverse/scvi-tools/issues/2387", plain, "ok",
         "A saved model gives the same values in a new process; the file is plain arrays and JSON with a "
         "format version, no pickled pandas or anndata objects.", check_save_load, mode="save_load"),
    Case("size-wide-sparse", "memory", GH + "KlugerLab/ALRA/issues/24", wide_sparse, "ok",
         "4000 x 25000 at 0.5% density: the input is never made dense as a whole; peak memory beyond the "
         "output layer (0.4 GB in float32) stays under about 1 GB; the size of the output is said before "
         "training.", sane, accept=("error",)),
]
# fmt: on
