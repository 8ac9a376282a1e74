"""Whether a skill means one thing: the same law by any number, depth and share; and which cells a model takes for foreign."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp

import scdae
from scdae.core.data.thinning import thin, thin_values
from scdae.inputs.counts import read_counts
from scdae.outputs.report import FOREIGN, is_foreign, query_report

CELLS = 4000  # of the fit
SIZES = (200, 1000, 10_000, 60_000)
DEPTHS = (0.5, 1.0, 2.0)
SHARES = (0.03, 0.1, 0.3, 0.5)
MANY = 60_000  # of so many cells not each depth and share, or they would take most of the time
# Fitted to the first (half of its cells); the others are of other chemistries, sorted cells, or cells that were
# stimulated.
SETS = {
    "pbmc_1k_v3": ("pbmc_1k_v2", "pbmc3k", "citeseq_hto_pbmc_eccite"),
    "pbmc3k": ("pbmc_1k_v2", "pbmc_facs", "kang_pbmc_ifnb", "pbmc4k_ambient"),
    "pbmc_facs": ("pbmc3k",),
    "zeisel_cortex_ercc": (),
}


class Law:
    """Cells of one law, drawn anew at any depth, from the truth of a simulation."""

    def __init__(self, dropout: float, n_cells: int):
        found = scdae.datasets.simulate(n_cells, 300, dropout=dropout, seed=0)
        self.truth, self.var = found.layers["truth"], found.var
        self.rng = np.random.default_rng(0)

    def draw(self, rows: np.ndarray, depth: float) -> ad.AnnData:
        """New counts of some cells."""
        rate, spread = self.truth[rows] * depth, self.var["dispersion"].to_numpy()
        rate = rate * self.rng.gamma(1 / spread, spread, rate.shape)
        lost = self.rng.random(rate.shape) < self.var["dropout"].to_numpy()
        counts = self.rng.poisson(np.where(lost, 0, rate)).astype(np.float32)
        return ad.AnnData(sp.csr_matrix(counts), var=self.var[[]].copy())


def skill(shared: Path) -> None:
    """Print both tables."""
    one_law()
    foreign(shared / "data")


def one_law() -> None:
    """Skill of one model on new cells of its law, and of fits and evaluations."""
    print("\nSkill (nats per molecule) on cells of one law: must agree within .01")
    for dropout in (0.0, 0.1):
        law = Law(dropout, CELLS + max(SIZES))
        train = law.draw(np.arange(CELLS), 1.0)
        model = scdae.DAE().fit(train)
        print(f"dropout {dropout:g}: of the fit {model.outcome.report.skill:.4f}", flush=True)
        print(f"{'cells':>8s}{'depth':>7s}" + "".join(f"{share:>9.2f}" for share in SHARES) + "   by share held out")
        found = []
        for n_cells in SIZES:
            for depth in DEPTHS if n_cells < MANY else (1.0,):
                counts = read_counts(law.draw(CELLS + np.arange(n_cells), depth), for_fit=False)
                shares = SHARES if n_cells < MANY else (SHARES[0], SHARES[-1])
                reports = {
                    share: query_report(model.fitted_model(), counts, None, 0, share=share)[0] for share in shares
                }
                row = {share: report.skill for share, report in reports.items()}
                found += row.values() if n_cells > SIZES[0] else []
                error = max(report.skill_error for report in reports.values())
                cells = "".join(f"{row[share]:9.4f}" if share in row else " " * 9 for share in SHARES)
                print(f"{n_cells:8,d}{depth:7.1f}{cells}   standard error {error:.4f} or less", flush=True)
        for n_cells, depth, share in ((1000, 1.0, None), (CELLS, 0.5, None), (CELLS, 2.0, None), (CELLS, 1.0, 0.4)):
            fit = scdae.DAE(held_out=share).fit(law.draw(np.arange(n_cells), depth)).outcome
            print(f"a fit to {n_cells:,} cells of depth {depth:g}, {fit.held_out:.2f} held out: {fit.report.skill:.4f}")
        for fraction in (0.9, 0.5):
            scdae.tl.evaluate(train, fraction=fraction)
            value = scdae.get.evaluation(train).loc["scdae", "skill"]
            print(f"evaluate, {1 - fraction:.1f} held out: {value:.4f}")
        print(f"from {min(found):.4f} to {max(found):.4f} on {SIZES[1]:,} cells and more")


def foreign(folder: Path) -> None:
    """Which cells a model takes for foreign: all and a hundred, thinned, with efficiencies by gene, and of other data sets."""
    print(
        f"\nGain over the gain that a model expects of itself; foreign below {FOREIGN:g} by two standard errors, or worse than means"
    )
    right = total = 0
    for name, others in SETS.items():
        adata, rng = ad.read_h5ad(folder / f"{name}.h5ad"), np.random.default_rng(0)
        order = rng.permutation(adata.n_obs)
        half = adata.n_obs // 2
        model = scdae.DAE().fit(adata[np.sort(order[:half])].copy())
        rest = adata[np.sort(order[half:])].copy()
        queries = [("same law", False, rest)]
        for fraction in (0.5, 0.2):
            thinned = rest.copy()
            thinned.X = thin(sp.csr_matrix(rest.X), fraction, rng)[0]
            queries.append((f"thinned to {fraction:g}", False, thinned))
        imaged, efficiency = rest.copy(), np.exp(rng.normal(0, 0.5, rest.n_vars))
        imaged.X = sp.csr_matrix(rest.X)
        imaged.X.data = thin_values(imaged.X.data, (efficiency / efficiency.max())[imaged.X.indices], rng)
        queries.append(("efficiencies by gene", True, imaged))
        for other in others:
            found = ad.read_h5ad(folder / f"{other}.h5ad")
            found.var_names_make_unique()
            queries.append((other, True, found[:1000].copy()))
        for label, is_other, query in queries:
            for n_cells in (min(query.n_obs, 1000), 100):
                for draw in range(4 if n_cells == 100 else 1):
                    some = query[np.random.default_rng(draw).permutation(query.n_obs)[:n_cells]].copy()
                    report, _ = query_report(model.fitted_model(), read_counts(some, for_fit=False), None, draw)
                    said = is_foreign(report)
                    right, total = right + (said == is_other), total + 1
                    if draw == 0:
                        print(
                            f"{name:20s}{label:26s}{n_cells:6,d} cells: {report.efficiency:6.3f} +- {report.efficiency_error:.3f}, "
                            f"skill {report.skill:7.4f}, {'foreign' if said else 'alike':8s}{'' if said == is_other else 'WRONG'}"
                        )
    print(f"right in {right} of {total} pairs")
