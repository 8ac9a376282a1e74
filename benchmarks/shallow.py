"""A reference model on shallow queries: cells of other samples with few molecules each."""

import sys
from pathlib import Path

import anndata as ad
import numpy as np
from reuse import read

import scdae
from scdae.metrics import deviance_skill, gene_mean

SETS = ("pbmc_1k_v3", "pbmc_facs")  # references; the query is pbmc_1k_v2, and the other half of the cells
FRACTIONS = (0.2, 0.1, 0.05, 0.02)


def shallow(shared: Path, names: list[str]) -> None:
    """Print held-out skill on thinned queries: of a model of their own, of the reference's, and of that one adapted."""
    print("\nA reference model on queries thinned to a fraction of their molecules: skill on the molecules left out")
    print(
        f"{'reference':12s}{'fraction':>9s}{'molecules':>10s}{'own fit':>9s}{'applied':>9s}{'adapted':>9s}{'share':>8s}"
    )
    for name in SETS:
        if names and name not in names:
            continue
        reference, query = _pair(shared, name)
        model = scdae.DAE().fit(reference)
        for fraction in FRACTIONS:
            train, test = scdae.pp.thin(query, fraction, seed=0)
            seen = np.asarray(train.X.sum(axis=0)).ravel() > 0
            cells = np.asarray(train.X.sum(axis=1)).ravel() > 0
            train, test = train[cells].copy(), test[cells]
            both = np.isin(train.var_names, reference.var_names) & seen
            ratio = (1 - fraction) / fraction
            truth, base = test.X.toarray()[:, both], gene_mean(train.X.toarray())[:, both] * ratio

            def skill(restored, truth=truth, base=base, both=both, ratio=ratio):
                return deviance_skill(truth, restored[:, both] * ratio, base, blend=0.01)

            own = skill(scdae.DAE().fit(train).impute(train))
            applied, adapted = skill(model.impute(train)), skill(model.adapt(train).impute(train))
            depth = float(np.median(np.asarray(train.X.sum(axis=1))))
            print(f"{name:12s}{fraction:9.2f}{depth:10.0f}{own:9.4f}{applied:9.4f}{adapted:9.4f}{adapted / own:8.1%}")
            sys.stdout.flush()


def _pair(shared: Path, name: str) -> tuple[ad.AnnData, ad.AnnData]:
    """Reference and query."""
    if name == "pbmc_1k_v3":
        return read(shared, name), read(shared, "pbmc_1k_v2")
    both = read(shared, name)
    half = np.random.default_rng(0).permutation(both.n_obs) < both.n_obs // 2
    return both[half].copy(), both[~half].copy()
