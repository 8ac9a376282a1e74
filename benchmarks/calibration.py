"""How often the predictive law of the held-out molecules covers what was held out."""

import sys
from pathlib import Path

import anndata as ad
import numpy as np

import scdae
from scdae.core.distributions.predictive_numpy import law_of_entries, predictive_law, predictive_pit
from scdae.model.posterior import Posterior

RATIO = 1 / 9  # molecules held out for each that is shown: the referee's split
LEAST = 0.5  # expected molecules of the entries that are looked at
LARGE = 5.0  # expected counts of those that are looked at apart
# name, least cells of a gene
UMI = {
    "zeisel_cortex_ercc": 0,
    "pbmc_1k_v3": 3,
    "pbmc_1k_v2": 3,
    "pbmc3k": 3,
    "sc_mixology_3cl_celseq2": 3,
    "sc_mixology_3cl_dropseq": 3,
    "kang_pbmc_ifnb": 3,
    "mouse_cortex_e17_dropseq": 3,
    "mouse_bladder_microwell": 3,
    "pbmc_facs": 3,
    "mesc_scrbseq_umi": 3,
}


def residuals(
    posterior: Posterior, held_out: np.ndarray, rng: np.random.Generator, ratio: float, least: float
) -> np.ndarray:
    """Randomized probability integral transform of the entries with enough molecules: uniform where the law is right."""
    if posterior.laws is None:
        law = predictive_law(posterior.counts, posterior.prior, posterior.theta, posterior.dropout, ratio)
        enough = law.expected > least
        return predictive_pit(held_out[enough], law.at(enough), rng)
    enough = ratio * posterior.mean > least
    of_entries = posterior.laws.at(enough.nonzero()[1])
    law = law_of_entries(of_entries, posterior.counts[enough], posterior.prior[enough], ratio)
    return predictive_pit(held_out[enough], law, rng)


def coverage(shared: Path, names: list[str]) -> None:
    """Print the coverage of 90 % predictive intervals and the histogram of the transform, data set by data set."""
    sys.path.insert(0, str(shared / "bench"))
    import mcv  # the referee's split

    print("\nHeld-out molecules: share in their 90 % predictive interval, and largest distance of a tenth of the PIT")
    print(f"histogram from 0.1 (entries with an expected count above {LEAST})")
    print(f"{'data':28s}{'entries':>10s}{'coverage':>10s}{'distance':>10s}")
    for name, least in UMI.items():
        if names and name not in names:
            continue
        parts = mcv.prepare(str(shared / f"data/{name}.h5ad"), 0, 0.9, least)
        adata, held_out = ad.AnnData(parts["train"].astype(np.float32)), parts["test"].tocsr()
        model, rng = scdae.DAE().fit(adata), np.random.default_rng(0)
        some = [slice(start, start + 256) for start in range(0, adata.n_obs, 256)]
        posteriors = [model.posterior(adata, cells=part) for part in some]
        for label, enough in ((name, LEAST), (f"  expected above {LARGE:g}", max(LEAST, LARGE * RATIO))):
            found = [
                residuals(one, held_out[part].toarray(), rng, RATIO, enough)
                for one, part in zip(posteriors, some, strict=True)
            ]
            value = np.concatenate(found)
            if not len(value):
                continue
            tenths = np.histogram(value, 10, (0, 1))[0] / len(value)
            inside = np.mean((value > 0.05) & (value < 0.95))
            print(f"{label:28s}{len(value):10,d}{inside:10.4f}{np.abs(tenths - 0.1).max():10.4f}", flush=True)
