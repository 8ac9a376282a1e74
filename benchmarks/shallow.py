"""A reference model on shallow queries: cells of other samples with few molecules each, beside scVI's reference mapping."""

import subprocess
import sys
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
from peers import CACHE, environment_of
from reuse import read

import scdae
from scdae.metrics import deviance_skill, gene_mean

SETS = ("pbmc_1k_v3", "pbmc_facs")  # references; the query is pbmc_1k_v2, and the other half of the cells
FRACTIONS = (0.2, 0.1, 0.05, 0.02)
COLUMNS = ("own fit", "applied", "adapted", "share", "scVI", "mapped")


def shallow(shared: Path, names: list[str], *, quick: bool) -> None:
    """Print held-out skill on thinned queries: of a model of their own, of the reference's, and of that one adapted.

    Beside them scVI: its model of the reference as it is, and after mapping the query; `quick` leaves it out.
    """
    print("\nA reference model on queries thinned to a fraction of their molecules: skill on the molecules left out")
    print(f"{'reference':12s}{'fraction':>9s}{'molecules':>10s}" + "".join(f"{name:>9s}" for name in COLUMNS))
    for name in SETS:
        if names and name not in names:
            continue
        reference, query = _pair(shared, name)
        queries = {fraction: _thinned(query, fraction) for fraction in FRACTIONS}
        mapped = {} if quick else _scvi(name, reference, queries)
        model = scdae.DAE().fit(reference)
        for fraction, (train, test) in queries.items():
            seen = np.asarray(train.X.sum(axis=0)).ravel() > 0
            both = train.var_names[seen & train.var_names.isin(reference.var_names)]
            ratio = (1 - fraction) / fraction
            at = train.var_names.get_indexer(both)
            truth, base = test.X.toarray()[:, at], gene_mean(train.X.toarray())[:, at] * ratio

            def skill(restored, genes, truth=truth, base=base, both=both, ratio=ratio):
                return deviance_skill(truth, restored[:, genes.get_indexer(both)] * ratio, base, blend=0.01)

            genes = train.var_names
            own = skill(scdae.DAE().fit(train).impute(train), genes)
            applied, adapted = skill(model.impute(train), genes), skill(model.adapt(train).impute(train), genes)
            depth = float(np.median(np.asarray(train.X.sum(axis=1))))
            print(f"{name:12s}{fraction:9.2f}{depth:10.0f}{own:9.4f}{applied:9.4f}{adapted:9.4f}", end="")
            print(f"{adapted / own:9.1%}", end="")
            print("".join(f"{skill(restored, reference.var_names):9.4f}" for restored in mapped.get(fraction, ())))
            sys.stdout.flush()


def _thinned(query: ad.AnnData, fraction: float) -> tuple[ad.AnnData, ad.AnnData]:
    """Cells of which some molecules are shown, and the rest of their molecules."""
    train, test = scdae.pp.thin(query, fraction, seed=0)
    cells = np.asarray(train.X.sum(axis=1)).ravel() > 0
    return train[cells].copy(), test[cells].copy()


def _scvi(name: str, reference: ad.AnnData, queries: dict) -> dict[float, list[np.ndarray]]:
    """What scVI restores of each query, applied and mapped, over the genes of the reference; kept for a later run."""
    kept = CACHE / f"shallow-{name}"
    wanted = {fraction: [kept / f"{fraction}-{how}.npy" for how in ("applied", "mapped")] for fraction in queries}
    if not all(path.exists() for paths in wanted.values() for path in paths):
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="scdae-shallow-") as folder:
            _plain(reference).write_h5ad(f"{folder}/reference.h5ad")
            for fraction, (train, _) in queries.items():
                _plain(train).write_h5ad(f"{folder}/{fraction}.h5ad")
            command = [environment_of("base"), Path(__file__).with_name("shallow_worker.py")]
            command += [f"{folder}/reference.h5ad", kept, *(f"{folder}/{fraction}.h5ad" for fraction in queries)]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"scVI failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return {fraction: [np.load(path) for path in paths] for fraction, paths in wanted.items()}


def _plain(adata: ad.AnnData) -> ad.AnnData:
    """Counts with names, which any version of anndata reads."""
    found = ad.AnnData(adata.X.astype(np.float32))
    found.obs_names, found.var_names = adata.obs_names.astype(str), adata.var_names.astype(str)
    return found


def _pair(shared: Path, name: str) -> tuple[ad.AnnData, ad.AnnData]:
    """Reference and query."""
    if name == "pbmc_1k_v3":
        return read(shared, name), read(shared, "pbmc_1k_v2")
    both = read(shared, name)
    half = np.random.default_rng(0).permutation(both.n_obs) < both.n_obs // 2
    return both[half].copy(), both[~half].copy()
