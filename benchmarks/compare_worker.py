"""One method on one matrix, in the environment that has it: ``compare_worker.py METHOD FOLDER``.

Reads ``train.npz`` and ``genes.npy`` of the folder, writes ``restored.npy`` (float32, cells x genes, on the scale of
the counts) and ``report.json``. Defaults throughout, seed 0.
"""

import json
import os
import sys
import warnings
from importlib.metadata import version

import numpy as np
import scipy.sparse as sp


def scdae(counts, genes):
    """Posterior means."""
    from anndata import AnnData

    import scdae

    adata = AnnData(counts.astype(np.float32))
    adata.var_names = genes
    scdae.pp.impute(adata)
    return adata.layers["scdae"]


def scdae_again(counts, genes):
    """The same in a process that finds its programs compiled."""
    import scdae as package

    package.settings.compilation_cache = os.environ["SCDAE_COMPILED"]
    return scdae(counts, genes)


def magic(counts, genes):
    """Exact solver on log1p of shares, as the Open Problems task calls it."""
    from magic import MAGIC

    total = np.asarray(counts.sum(axis=1))
    shares = sp.csr_matrix(counts.multiply(1 / total), dtype=np.float64).log1p()
    smooth = MAGIC(solver="exact", decay=1, t=3, verbose=False, random_state=0).fit_transform(shares, genes="all_genes")
    return np.expm1(smooth.toarray() if sp.issparse(smooth) else np.asarray(smooth)) * total


def halra(counts, genes):
    """ALRA in Python, on its own normalization; genes and cells that it drops stay at zero."""
    from halra import halra as run

    total = np.asarray(counts.sum(axis=1))
    cells = np.arange(counts.shape[0]).astype(str).tolist()
    found, kept_cells, kept_genes = run(counts.copy(), cells, list(genes), normalize=True, seed=0)[:3]
    place = dict(zip(genes, range(len(genes)), strict=True))
    restored = np.zeros(counts.shape)
    at = np.ix_(np.asarray(kept_cells, int), [place[gene] for gene in kept_genes])
    restored[at] = np.expm1(found.toarray() if sp.issparse(found) else found)
    return restored / 1e4 * total


def dca(counts, genes):
    """Negative binomial autoencoder with a dispersion of its own for each entry, its default."""
    from anndata import AnnData
    from dca.api import dca as run

    adata = AnnData(counts.toarray().astype(np.float32))
    run(adata, ae_type="nb-conddisp", random_state=0)
    return adata.X


def scvi(counts, genes):
    """ZINB variational autoencoder; expected shares times the cell's own total."""
    import scvi
    import torch
    from anndata import AnnData

    torch.set_num_threads(1)  # two are many times slower wherever another process wants a core
    scvi.settings.seed = 0
    adata = AnnData(counts.astype(np.float32))
    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(adata)
    model.train(accelerator="cpu", enable_progress_bar=False)
    return model.get_normalized_expression(library_size=1, return_numpy=True) * np.asarray(counts.sum(axis=1))


def low_rank(counts, genes):
    """Truncated SVD of log counts per 10,000; the rank that predicts a fifth of the molecules best, set aside for that."""
    rng = np.random.default_rng(0)
    aside = counts.copy()
    aside.data = rng.binomial(counts.data.astype(int), 0.2)
    shown = sp.csr_matrix(counts - aside)
    shown.eliminate_zeros()
    ranks = [rank for rank in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48) if rank < min(counts.shape)]
    left, right, total = _factors(shown, ranks[-1])
    counted = aside.toarray()
    losses = []
    for rank in ranks:
        mean = _expected(left[:, :rank], right[:rank], total) / 4 + 1e-6
        losses.append((mean - counted * np.log(mean)).mean())
    left, right, total = _factors(counts, ranks[int(np.argmin(losses))])
    return _expected(left, right, total)


def _factors(counts, rank):
    from sklearn.decomposition import TruncatedSVD

    total = np.maximum(np.asarray(counts.sum(axis=1)), 1)
    model = TruncatedSVD(rank, random_state=0)
    left = model.fit_transform(sp.csr_matrix(counts.multiply(1e4 / total), dtype=np.float32).log1p())
    return left, model.components_, total


def _expected(left, right, total):
    values = np.expm1(np.clip(left @ right, 0, 15))
    return values / np.maximum(values.sum(axis=1, keepdims=True), 1e-9) * total


def neighbors(counts, genes):
    """Sum over the cell and its 31 nearest in 30 principal components, brought to the cell's total."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.neighbors import NearestNeighbors

    total = np.asarray(counts.sum(axis=1))
    logs = sp.csr_matrix(counts.multiply(1e4 / total)).log1p()
    place = TruncatedSVD(min(30, min(counts.shape) - 1), random_state=0).fit_transform(logs)
    near = NearestNeighbors(n_neighbors=min(32, len(place))).fit(place).kneighbors_graph(place)
    summed = (near @ counts).toarray()
    return summed / summed.sum(axis=1, keepdims=True) * total


PACKAGES = {
    "scdae": ("scdae", "jax"),
    "scdae_again": ("scdae", "jax"),
    "magic": ("magic-impute",),
    "halra": ("halra",),
    "dca": ("dca", "tensorflow-cpu"),
    "scvi": ("scvi-tools", "torch"),
    "low_rank": ("scikit-learn",),
    "neighbors": ("scikit-learn",),
}


def main():
    """Run one method."""
    warnings.filterwarnings("ignore")
    method, folder = sys.argv[1:]
    counts = sp.load_npz(os.path.join(folder, "train.npz")).tocsr()
    genes = np.load(os.path.join(folder, "genes.npy"))
    restored = globals()[method](counts, genes)
    np.save(os.path.join(folder, "restored.npy"), np.asarray(restored, np.float32))
    versions = {"python": sys.version.split()[0]} | {name: version(name) for name in PACKAGES[method]}
    with open(os.path.join(folder, "report.json"), "w") as file:
        json.dump({"versions": versions, "gib": round(peak(), 2)}, file)


def peak():
    """Largest memory that this process held, GiB. What the system says of a child includes its parent's at the start."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 2**20
    except OSError:  # no Linux
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30


if __name__ == "__main__":
    main()
