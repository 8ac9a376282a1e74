"""16S rRNA genes: chimeras, what is no 16S, and reads with errors, told from normal genes of genera that were not in training.

Beside the score of scdae: vsearch --uchime_ref with the training sequences as its reference, the nearest parents by
window, and the reconstruction error of a PCA. Genera are split by lot into training, calibration and test; settings of
both were chosen on the calibration genera. It takes scikit-bio and edlib from PyPI, and Debian's vsearch where that is
to be compared.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from made_16s import BINS, chimeras, markov, shuffled, with_errors, with_expansions
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

import scdae
from scdae.core.chimeras.kmers import letters, words

FILE = "data/refseq_16s_bacteria_3000.fasta.gz"
SETTINGS = {"n_latent": 128, "n_components": 256, "n_hidden": 256, "likelihood": "poisson", "max_epochs": 60}
EACH = 60  # chimeras of each bin
OTHERS = 100  # sequences of each other kind
RATES = (0.01, 0.03, 0.05, 0.1)
LEVEL = 0.05
WORD = 5  # letters, of the nearest-parent baseline


def split_genera(genus: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Share genera out; of two sequences of a training genus, the second is a mate, which is not trained on."""
    genera = rng.permutation(np.unique(genus))
    of_genus = dict(zip(genera, np.repeat(["train", "calibration", "test"], _thirds(len(genera))), strict=True))
    split = np.array([of_genus[one] for one in genus], dtype=object)
    seen = set()
    for i in rng.permutation(len(genus)):
        if split[i] == "train":
            split[i] = "mate" if genus[i] in seen else "train"
            seen.add(genus[i])
    return split


def _thirds(n: int) -> list[int]:
    train, rest = round(0.7 * n), n - round(0.7 * n)
    return [train, rest // 2, rest - rest // 2]


def similarity(sequences: list[str], k: int = 8) -> np.ndarray:
    """Share of words in common."""
    found = [np.unique(words(letters(one), k)) for one in sequences]
    rows = np.repeat(np.arange(len(found)), [len(one) for one in found])
    has = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, np.concatenate(found))), shape=(len(found), 4**k))
    common = (has @ has.T).toarray()
    size = np.diag(common)
    return common / (size[:, None] + size - common)


class NearestParents:
    """How many more words two parents explain than one, the best pair for each breakpoint between windows.

    Words of each window are compared with those of the same window of every training sequence. The gain is divided by
    the root of the words that two parents leave unexplained (the statistic of several that did best on the calibration
    genera), and standardized at each breakpoint by what training sequences have without their own genus, as scdae does.
    """

    def __init__(self, reference, genus: np.ndarray):
        self.n_windows = int(reference.uns["kmers"]["n_windows"])
        self.reference = self._has(reference)
        same = genus[:, None] == genus
        some = np.sort(np.random.default_rng(0).permutation(reference.n_obs)[:600])
        gain = self._gain([part[some] for part in self.reference], same[some])[0]
        self.center, self.spread = gain.mean(axis=0), gain.std(axis=0)

    def _has(self, adata) -> list[sp.csr_matrix]:
        counts = (adata.X > 0).astype(np.float32).tocsc()
        width = counts.shape[1] // self.n_windows
        return [counts[:, i * width : (i + 1) * width].tocsr() for i in range(self.n_windows)]

    def _gain(self, query: list[sp.csr_matrix], excluded: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        common = [(a @ b.T).toarray() for a, b in zip(query, self.reference, strict=True)]
        if excluded is not None:
            for part in common:
                part[excluded] = -1e4
        total = sum(common)
        n_words = sum(np.asarray(part.sum(axis=1)).ravel() for part in query)
        left, gains = np.zeros_like(total), []
        for part in common[:-1]:
            left = left + part
            two = left.max(axis=1) + (total - left).max(axis=1)
            gains.append((two - total.max(axis=1)) / np.sqrt(n_words - two + 20))
        return np.stack(gains, axis=1), 1 - total.max(axis=1) / np.maximum(n_words, 1)

    def score(self, adata) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Chimera score, window right of the breakpoint, and share of the words that the nearest parent lacks."""
        gain, lacking = self._gain(self._has(adata))
        gain = (gain - self.center) / self.spread
        return gain.max(axis=1), 1 + gain.argmax(axis=1), lacking


def uchime(query: dict[str, str], reference: dict[str, str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score of vsearch --uchime_ref, whether it calls a chimera (Y, by its defaults), and the parents' identity on its model.

    Scores are taken without its thresholds, so that all sequences have one.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("query.fasta", "reference.fasta", "all.txt", "calls.txt")]
        for path, sequences in zip(paths, (query, reference), strict=False):
            path.write_text("".join(f">{name}\n{text}\n" for name, text in sequences.items()))
        free = ["--minh", "0.0001", "--mindiv", "0.0001", "--mindiffs", "1"]
        for out, options in ((paths[2], free), (paths[3], [])):
            command = ["vsearch", "--uchime_ref", paths[0], "--db", paths[1], "--uchimeout", out, "--threads", "2"]
            subprocess.run([*map(str, command), *options], check=True, capture_output=True)
        scores, calls = ({row[1]: row for row in map(str.split, path.read_text().splitlines())} for path in paths[2:])
    score = np.array([float(scores[name][0]) for name in query])
    return score, np.array([calls[name][-1] == "Y" for name in query])


def guard_16s(shared: Path, seed: int = 16) -> None:
    """Print what each method finds."""
    rng = np.random.default_rng(seed)
    everything = scdae.pp.read_fasta(shared / FILE)
    headers, texts = list(everything), list(everything.values())
    split = split_genera(np.array([header.split()[1] for header in headers]), rng)
    of = {part: [texts[i] for i in np.flatnonzero(split == part)] for part in ("train", "mate", "calibration", "test")}
    queries, truth = _queries(of, rng)

    parts = {part: {headers[i]: texts[i] for i in np.flatnonzero(split == part)} for part in ("train", "calibration")}
    reference = scdae.pp.kmers(parts["train"])
    calibration = scdae.pp.kmers(parts["calibration"], reference=reference)
    adata = scdae.pp.kmers(queries, reference=reference, min_length=100)
    model = scdae.DAE(**SETTINGS).fit(reference, mask="observed")
    scdae.tl.score_sequences(adata, model, reference, calibration)

    fine = scdae.pp.kmers(parts["train"], k=WORD)
    nearest = NearestParents(fine, fine.obs["genus"].to_numpy(str))
    near, near_window, lacking = nearest.score(scdae.pp.kmers(queries, reference=fine, min_length=100))
    pca = PCA(SETTINGS["n_latent"], random_state=0).fit(np.sqrt(reference.X.toarray()))
    roots = np.sqrt(adata.X.toarray())
    error = ((roots - pca.inverse_transform(pca.transform(roots))) ** 2).sum(axis=1)
    scores = {
        "scdae": adata.obs["guard_chimera"].to_numpy(),
        "nearest parents": near,
        "PCA error": error,
    }
    called = None
    if shutil.which("vsearch"):
        names = {name.split()[0]: text for name, text in queries.items()}
        score, called = uchime(names, {header.split()[0]: text for header, text in parts["train"].items()})
        scores["vsearch uchime_ref"] = score
    sizes = {part: len(of[part]) for part in of}
    print(f"\n16S rRNA genes: {sizes}; genera of calibration and test are not in training; seed {seed}")
    _print_chimeras(adata, truth, scores, near_window, called)
    _print_others(adata, truth, lacking, error)


def _queries(of: dict[str, list[str]], rng: np.random.Generator) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Sequences to judge by name, and for each its kind, bin and breakpoint."""
    made: list[tuple[str, str, int, int]] = []
    for part in ("train", "mate", "test"):
        for one in chimeras(of[part], EACH, rng, similarity=similarity(of[part])):
            made.append((one[0], f"chimera {part}", one[5], one[3]))
    made += [(text, f"normal {part}", -1, -1) for part in ("mate", "test") for text in of[part]]
    some = [of["test"][i] for i in rng.choice(len(of["test"]), OTHERS, replace=False)]
    made += [(shuffled(text, rng), "shuffled", -1, -1) for text in some]
    made += [(with_expansions(text, rng), "18S-like", -1, -1) for text in some]
    made += [(markov(of["train"][:200], len(text), rng), "genomic-like", -1, -1) for text in some]
    for rate in RATES:
        made += [(with_errors(text, rate, rng), f"{rate:.0%} errors", -1, -1) for text in some]
    queries = {f"q{i} {kind}": text for i, (text, kind, *_) in enumerate(made)}
    truth = {name: np.array([one[at] for one in made]) for at, name in ((1, "kind"), (2, "bin"), (3, "spot"))}
    return queries, truth


def _auc(score: np.ndarray, found: np.ndarray, normal: np.ndarray) -> float:
    return roc_auc_score(np.r_[np.ones(found.sum()), np.zeros(normal.sum())], np.r_[score[found], score[normal]])


def _print_chimeras(adata, truth: dict, scores: dict, near_window: np.ndarray, called: np.ndarray | None) -> None:
    kind, which = truth["kind"], truth["bin"]
    normal = kind == "normal test"
    pvalue = adata.obs["guard_chimera_pvalue"].to_numpy()
    head = "".join(f"{f'{low}-{high} %' if high < 100 else f'>{low} %':>10s}" for low, high in BINS)
    parents = {
        "train": "two training sequences",
        "mate": "sequences not trained on, of training genera",
        "test": "sequences of genera not in training",
    }
    print("Chimeras: AUC by divergence of the parents, against normal sequences of test genera")
    starts = np.asarray(adata.obsm["window_starts"])
    spots = {
        "scdae": adata.obs["guard_breakpoint"].to_numpy(),
        "nearest parents": starts[np.arange(len(starts)), near_window],
    }
    for part, words_ in parents.items():
        print(f"\nparents: {words_}\n{'':30s}{head}")
        bins = [(kind == f"chimera {part}") & (which == i) for i in range(len(BINS))]
        print(f"{'chimeras':30s}" + "".join(f"{found.sum():10d}" for found in bins))
        for name, score in scores.items():
            values = (f"{_auc(score, found, normal):10.3f}" if found.sum() >= 5 else f"{'-':>10s}" for found in bins)
            print(f"{name:30s}" + "".join(values))
        rows = {f"scdae, called at {LEVEL:.0%}": pvalue <= LEVEL}
        if called is not None:
            rows["vsearch, called by defaults"] = called
        for name, flag in rows.items():
            print(
                f"{name:30s}"
                + "".join(f"{flag[found].mean():10.2f}" if found.any() else f"{'-':>10s}" for found in bins)
            )
        for name, spot in spots.items():
            off = np.abs(spot - truth["spot"])
            values = (f"{np.median(off[found]):10.0f}" if found.any() else f"{'-':>10s}" for found in bins)
            print(f"{name + ', letters off':30s}" + "".join(values))
    print(f"\nFalse alarms at {LEVEL:.0%}")
    for name, flag in {"chimera": pvalue, "misfit": adata.obs["guard_misfit_pvalue"].to_numpy()}.items():
        shares = ", ".join(
            f"{part} {(flag[kind == f'normal {part}'] <= LEVEL).mean():.3f}" for part in ("test", "mate")
        )
        print(f"{'scdae ' + name:30s}{shares}   (mate: sequences not trained on, of training genera)")
    fdr = adata.obs["guard_chimera_fdr"].to_numpy() <= LEVEL
    print(f"{'scdae chimera, FDR 5 %':30s}{fdr[normal].sum()} of {normal.sum()} normal test sequences")
    if called is not None:
        print(
            f"{'vsearch, defaults':30s}test {called[normal].mean():.3f}, mate {called[kind == 'normal mate'].mean():.3f}"
        )


def _print_others(adata, truth: dict, lacking: np.ndarray, error: np.ndarray) -> None:
    kind = truth["kind"]
    normal = kind == "normal test"
    score, pvalue = adata.obs["guard_misfit"].to_numpy(), adata.obs["guard_misfit_pvalue"].to_numpy()
    scores = {"scdae misfit": score, "nearest parent": lacking, "PCA error": error}
    kinds = ["shuffled", "18S-like", "genomic-like", *(f"{rate:.0%} errors" for rate in RATES)]
    print("\nNo 16S, and reads with errors: AUC against normal sequences of test genera")
    print(f"{'':30s}" + "".join(f"{one:>13s}" for one in kinds))
    for name, values in scores.items():
        print(f"{name:30s}" + "".join(f"{_auc(values, kind == one, normal):13.3f}" for one in kinds))
    print(
        f"{f'scdae, called at {LEVEL:.0%}':30s}"
        + "".join(f"{(pvalue[kind == one] <= LEVEL).mean():13.2f}" for one in kinds)
    )
