"""Measure scdae with the referee that the peers were measured with.

    python benchmarks/run.py                 # everything
    python benchmarks/run.py quality         # held-out skill, Poisson loss, slope, Open Problems score; simulated truth
    python benchmarks/run.py coverage        # held-out molecules in their 90 % predictive intervals
    python benchmarks/run.py compare         # skill, seconds and memory beside peers from PyPI, into docs/; needs no referee
    python benchmarks/run.py fidelity        # markers of cell types, rare ones too: filled, leaking, smoothed away? beside peers
    python benchmarks/run.py stability       # restored counts and dropout in other orders of cells and genes, and by other seeds
    python benchmarks/run.py skill           # one skill for any number, depth and share; which cells are foreign to a model
    python benchmarks/run.py rare            # a simulated atlas with rare types: distance from an oracle that knows the truth
    python benchmarks/run.py null            # correlation between genes, and genes called helped, where there is nothing
    python benchmarks/run.py mixtures        # RNA mixtures of known proportions, beside peers
    python benchmarks/run.py reference       # deeply measured cells, thinned and restored, beside peers
    python benchmarks/run.py proteins        # surface proteins and their mRNA
    python benchmarks/run.py groups          # differential expression: truth, groups by lot, a known response
    python benchmarks/run.py missing         # hidden entries, filled, beside kNN, iterative PCA and MAGIC
    python benchmarks/run.py panels          # genes that a panel did not measure, beside SpaGE, gimVI and Tangram
    python benchmarks/run.py batches         # batch mixing and cell types, beside Harmony and scVI; skill with the key
    python benchmarks/run.py guard_16s       # chimeras and misfits among 16S rRNA genes, beside vsearch
    python benchmarks/run.py chimeras        # chimeras by distance to the nearer parent, beside vsearch and DADA2
    python benchmarks/run.py reuse           # a model of one data set applied and adapted to others
    python benchmarks/run.py shallow         # a reference model on queries of few molecules, applied and adapted
    python benchmarks/run.py doublets        # doublets by genotype and by hashtag, beside Scrublet
    python benchmarks/run.py shield          # classifiers attacked, with and without purification
    python benchmarks/run.py attacks         # of these, the attackers who know of the shield: APGD, Square, transfer, molecules
    python benchmarks/run.py scale           # time and memory of training by number of cells, 1,000 to 200,000
    python benchmarks/run.py atlas           # a million cells on disk, under a limit of memory (half an hour, 20 GB of disk)
    python benchmarks/run.py kills           # signals in every phase of a job: exit codes, what is left (a quarter of an hour)
    python benchmarks/run.py asked           # memory that scdae batch asks for, and that the job takes: 200 to 200,000 cells
    python benchmarks/run.py arrays          # 20 small jobs, and two fits with batches, two at a time; --old SRC: beside another build
    python benchmarks/run.py speed           # seconds and peak memory of a whole process
    python benchmarks/run.py snippet         # the README's snippet in one process; --old SRC: beside another build
    python benchmarks/run.py workers         # some genes of 60,000 cells, by one worker process of Dask and by two
    python benchmarks/run.py restoring       # some genes of 20,000 cells to a sparse layer; --old SRC: beside another build
    python benchmarks/run.py reading         # cells per second read for training, beside annbatch on the same collection
    python benchmarks/run.py numeric         # likelihoods, posteriors, draws, logs against SciPy in float64: the largest errors; finite gradients

Data and referee lie in ../shared (or $SCDAE_SHARED), which is not part of the repository. Results go to
benchmarks/output.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("SCDAE_SHARED", HERE.parents[1] / "shared")).resolve()
OUTPUT = HERE / "output"

# name, file, folder of the recorded peers, least cells of a gene, skill to reach
QUALITY = [
    ("zeisel_cortex_ercc", SHARED / "data/zeisel_cortex_ercc.h5ad", "zeisel", 0, 0.155),
    ("pbmc_1k_v3", SHARED / "data/pbmc_1k_v3.h5ad", "pbmc_1k_v3", 3, 0.115),
    ("pbmc3k", SHARED / "data/pbmc3k.h5ad", "pbmc3k", 3, 0.105),
    ("sc_mixology_3cl_celseq2", SHARED / "data/sc_mixology_3cl_celseq2.h5ad", "sc_mixology_3cl_celseq2", 3, 0.116),
    ("sim_plain", OUTPUT / "sim_plain.h5ad", "sim_plain", 0, 0.0195),
]
TRUTHS = ["mixtures", "reference", "proteins", "groups"]  # of truths.py
PARTS = [
    "compare",
    "quality",
    "coverage",
    "fidelity",
    "stability",
    "skill",
    "null",
    "rare",
    *TRUTHS,
    "missing",
    "panels",
    "batches",
    "reuse",
    "shallow",
    "guard",
    "doublets",
    "guard_16s",
    "chimeras",
    "shield",
    "attacks",
    "speed",
    "scale",
    "atlas",
    "kills",
    "asked",
    "arrays",
    "snippet",
    "restoring",
    "workers",
    "reading",
    "numeric",
]
ASKED_FOR = ("atlas", "kills", "asked", "arrays", "snippet", "restoring", "workers", "reading")  # run by name alone
SIMULATION = "--cells 2000 --genes 2000 --groups 6 --seed 11 --lib-mu 7.6 --path-frac 0.3".split()
SPEED = [("zeisel_cortex_ercc", 0, 10.0, None), ("pbmc3k", 3, 25.0, 1.5)]  # name, least cells, seconds, GiB


def environment() -> dict[str, str]:
    """Environment in which the referee finds this Python."""
    return dict(os.environ, BENCH_PYTHON=sys.executable)


def quality(names: list[str], threads: int) -> None:
    """Run the referee on each data set and print scdae beside the recorded peers."""
    recorded = json.loads((HERE / "recorded/peers.json").read_text())["skill"]
    print("\nHeld-out quality (referee split 0, defaults, seed 0)")
    print(
        f"{'data':26s}{'skill':>8s}{'goal':>8s}{'best peer':>22s}{'loss':>10s}{'best peer':>11s}{'slope':>8s}", end=""
    )
    print(f"{'truth r':>9s}{'peer':>7s}{'fit s':>7s}{'MiB':>7s}")
    published = []
    for name, data, folder, least, goal in QUALITY:
        if names and name not in names:
            continue
        if not data.exists():
            subprocess.run(
                [sys.executable, SHARED / "bench/sim.py", data, *SIMULATION], check=True, stdout=subprocess.DEVNULL
            )
        out = OUTPUT / "quality" / name / "scdae.json"
        command = [sys.executable, SHARED / "bench/run_method.py", "--method", "scdae", "--module", HERE / "adapter.py"]
        command += ["--python", sys.executable, "--data", data, "--out", out, "--min-cells", str(least)]
        command += ["--threads", str(threads), "--seed", "0"]
        subprocess.run(list(map(str, command)), check=True, env=environment(), stdout=subprocess.DEVNULL)
        ours, prior = json.loads(out.read_text()), out.with_name("scdae.prior.json")
        if ours["status"] != "ok":
            raise SystemExit(f"{name}: {ours.get('error')}, see {out.with_suffix('.log')}")
        m, p = ours["metrics"], json.loads(prior.read_text())["metrics"]
        peers = [json.loads(f.read_text()) for f in (SHARED / "bench/results" / folder).glob("*.json")]
        peers = [q for q in peers if q["status"] == "ok" and not q["method"].startswith("oracle")]
        best = max(peers, key=lambda q: q["metrics"]["op_mse_score"])
        skills = {q["method"]: q["metrics"]["pois_dev_skill"] for q in peers} | recorded.get(name, {})
        strongest = max(skills, key=skills.get)
        peers = [q["metrics"] for q in peers]
        logs = json.loads(out.with_name("scdae.log1p.json").read_text())["metrics"]
        published.append((name, logs, m, min(q["poisson_nll"] for q in peers), best))
        truth = (
            f"{p['truth_gene_r_ln']:9.3f}{max(q['truth_gene_r_ln'] for q in peers):7.3f}"
            if "truth_gene_r_ln" in m
            else " " * 16
        )
        print(
            f"{name:26s}{m['pois_dev_skill']:8.4f}{goal:8.4f}{f'{skills[strongest]:.4f} {strongest}':>22s}"
            f"{m['poisson_nll']:10.5f}{min(q['poisson_nll'] for q in peers):11.5f}{m['calib_slope_within']:8.3f}{truth}"
            f"{ours['wall_s']:7.1f}{ours['peak_rss_mb']:7.0f}",
            flush=True,
        )

    print(
        "\nOpen Problems protocol (MSE-norm of output='log1p'; its Poisson term as published, arguments swapped, and the"
    )
    print("Poisson loss in the right order, of output='mean')")
    print(
        f"{'data':26s}{'MSE-norm':>9s}{'best peer':>24s}{'Poisson-norm':>14s}{'best':>7s}{'loss':>10s}{'best peer':>11s}"
    )
    for name, logs, m, least, best in published:
        peer = f"{best['metrics']['op_mse_score']:.3f} ({best['method']})"
        print(
            f"{name:26s}{logs['op_mse_score']:9.3f}{peer:>24s}{m['op_poisson_score']:14.3f}"
            f"{best['metrics']['op_poisson_score']:7.3f}{m['poisson_nll']:10.5f}{least:11.5f}"
        )


def null(names: list[str]) -> None:
    """Mean absolute correlation between genes of data without structure, raw and restored."""
    import anndata as ad
    import numpy as np
    import scipy.sparse as sp

    import scdae

    def correlation(x, genes):
        total = x.sum(axis=1, keepdims=True)
        y = np.log1p(x / np.where(total > 0, total, 1e4) * 1e4)[:, genes]
        r = np.corrcoef(y[:, y.std(axis=0) > 1e-9], rowvar=False)
        return np.abs(r[np.triu_indices_from(r, 1)]).mean()

    print("\nData with nothing to find: mean |r| between 200 of the 800 most expressed genes (at most 1.25 times raw)")
    print("Mean of 20 draws of these, and the largest ratio")
    for name in ("ercc_droplets_10x", "pbmc_1k_v3 permuted"):
        if names and name.split()[0] not in names:
            continue
        adata = ad.read_h5ad(SHARED / f"data/{name.split()[0]}.h5ad")
        if name.endswith("permuted"):
            rng = np.random.default_rng(0)
            x = adata.X.toarray()
            for column in x.T:
                column[:] = rng.permutation(column)
            adata = ad.AnnData(sp.csr_matrix(x), obs=adata.obs[[]], var=adata.var[[]])
        most = np.argsort(-np.asarray(adata.X.sum(axis=0)).ravel(), kind="stable")[:800]
        draws = [np.random.RandomState(seed).choice(most, min(200, len(most)), replace=False) for seed in range(20)]
        scdae.pp.impute(adata)
        before, after = (np.asarray(values, float) for values in (adata.X.toarray(), adata.layers["scdae"]))
        raw, restored = (np.array([correlation(values, genes) for genes in draws]) for values in (before, after))
        print(
            f"{name:26s} raw {raw.mean():.4f}  restored {restored.mean():.4f}  ratio {restored.mean() / raw.mean():.2f}  "
            f"largest {(restored / raw).max():.2f}  mean gate {adata.var['scdae_gate'].mean():.3f}",
            flush=True,
        )


IMPORTS = "import anndata, scdae.pp, scdae.model"
JOB = """
import sys, anndata, numpy as np, scdae
if len(sys.argv) > 3:
    scdae.settings.compilation_cache = sys.argv[3]
adata = anndata.read_h5ad(sys.argv[1])
adata = adata[:, np.asarray((adata.X > 0).sum(axis=0)).ravel() >= int(sys.argv[2])].copy()
scdae.pp.impute(adata)
"""


def speed(names: list[str], runs: int) -> None:
    """Seconds and peak memory of a process that imports, reads, trains and restores; cold compilation.

    Beside it one that finds its programs compiled, MAGIC (exact) on the same counts where its environment is there, and
    a process that imports and does nothing more: machines that others use, too, are not always equally fast.
    """
    from peers import VENVS, Worker

    cache = OUTPUT / "compiled"
    print(f"\nWhole process, import and compilation included, {os.cpu_count()} cores: median of {runs} runs")
    for name, least, seconds, gib in SPEED:
        if names and name not in names:
            continue
        data = str(SHARED / f"data/{name}.h5ad"), str(least)
        _run(JOB, *data, str(cache))  # compiles
        magic = Worker(SHARED, "MAGIC", *data) if (VENVS / "magic").exists() else None
        walls, peaks, imports, warm, peer = [], [], [], [], []
        for _ in range(runs):
            imports.append(_run(IMPORTS)[0])
            wall, peak = _run(JOB, *data)
            walls.append(wall)
            peaks.append(peak)
            warm.append(_run(JOB, *data, str(cache)))
            if magic is not None:
                peer.append(_wait(magic.command))
        limit = f"goal {seconds:.0f} s" + (f", {gib} GiB" if gib else "")
        middle, alone = (sorted(times)[runs // 2] for times in (walls, imports))
        print(
            f"{name:26s} {middle:6.1f} s (from {min(walls):.1f} to {max(walls):.1f}; imports alone {alone:.1f} s)  "
            f"{max(peaks):5.2f} GiB   {limit}",
            flush=True,
        )
        again = sorted(wall for wall, _ in warm)[runs // 2]
        print(f"{'  programs compiled before':26s} {again:6.1f} s{'':47s}{max(peak for _, peak in warm):5.2f} GiB")
        if peer:
            theirs = sorted(wall for wall, _ in peer)[runs // 2]
            print(f"{'  MAGIC, exact':26s} {theirs:6.1f} s{'':47s}{max(peak for _, peak in peer):5.2f} GiB", end="")
            print(f"   scdae takes {again / theirs:.2f} times as long (goal 0.9)", flush=True)


def _run(program: str, *arguments: str) -> tuple[float, float]:
    """Seconds and peak GiB of a Python process."""
    return _wait([sys.executable, "-c", program, *arguments])


def _wait(command: list[str]) -> tuple[float, float]:
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"exit status {status} of: {' '.join(command[3:]) or command}")
    return time.perf_counter() - start, usage.ru_maxrss / 2**20


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=[], metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--data", nargs="*", default=[], help="only these data sets")
    parser.add_argument("--methods", nargs="*", default=[], help="only these methods of compare or fidelity")
    parser.add_argument("--threads", type=int, default=2, help="threads of the referee's runs")
    parser.add_argument("--old", type=Path, help="src of another build, for arrays, snippet and restoring")
    parser.add_argument("--runs", type=int, default=3, help="runs of the speed, snippet, restoring and workers parts")
    parser.add_argument(
        "--quick", action="store_true", help="batches and shallow without scVI; shield: only the effect of rounding"
    )
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part: {', '.join(sorted(unknown))}")
    parts = options.parts or [part for part in PARTS if part not in ASKED_FOR]
    if (
        set(parts)
        - {"scale", "atlas", "compare", "kills", "asked", "arrays", "snippet", "numeric", "restoring", "workers"}
        and not (SHARED / "bench/run_method.py").exists()
    ):
        raise SystemExit(f"No referee in {SHARED}. Set SCDAE_SHARED to the folder that holds bench/ and data/.")
    OUTPUT.mkdir(exist_ok=True)
    if "compare" in parts:
        from compare import compare

        compare(SHARED, options.data, options.methods)
    if "quality" in parts:
        quality(options.data, options.threads)
    if "coverage" in parts:
        from calibration import coverage

        coverage(SHARED, options.data)
    if "fidelity" in parts:
        from fidelity import fidelity

        fidelity(SHARED, options.data, options.methods)
    if "stability" in parts:
        from stability import stability

        stability(SHARED, options.data)
    if "skill" in parts:
        from skill import skill

        skill(SHARED)
    if "rare" in parts:
        from rare import rare

        rare(SHARED)
    if "null" in parts:
        from chance import chance

        null(options.data)
        chance(options.runs)
    for part in TRUTHS:
        if part in parts:
            import truths

            getattr(truths, part)(SHARED, options.data)
    if "missing" in parts:
        from missing import missing

        missing(SHARED, options.data)
    if "batches" in parts:
        from batches import batches

        batches(SHARED, options.data, quick=options.quick)
    if "reuse" in parts:
        from reuse import reuse

        reuse(SHARED, options.data)
    if "shallow" in parts:
        from shallow import shallow

        shallow(SHARED, options.data, quick=options.quick)
    if "shield" in parts:
        from shield import shield

        shield(SHARED, options.data, quick=options.quick)
    elif "attacks" in parts:
        from shield_known import known

        known(SHARED, options.data)
    if "guard_16s" in parts:
        from guard_16s import guard_16s

        guard_16s(SHARED)
    if "chimeras" in parts:
        from chimeras_16s import chimeras_16s

        chimeras_16s(SHARED)
    if "panels" in parts:
        from panels import panels

        panels(SHARED, OUTPUT, options.data)
    if "scale" in parts:
        from scale import scale

        scale(OUTPUT)
    if "atlas" in parts:
        from scale import million

        million(OUTPUT)
    if "kills" in parts:
        from kills import kills

        kills(options.runs)
    if "asked" in parts:
        from asked import asked

        asked()
    if "arrays" in parts:
        from arrays import arrays

        arrays(options.old)
    if "snippet" in parts:
        from snippet import snippet

        snippet(SHARED, options.old, options.runs)
    if "restoring" in parts:
        from restoring import restoring

        restoring(OUTPUT, options.old, options.runs)
    if "workers" in parts:
        from restoring import workers

        workers(OUTPUT, options.runs)
    if "reading" in parts:
        from reading import reading

        reading(OUTPUT)
    if "numeric" in parts:
        from numeric import numeric

        numeric()
    if "doublets" in parts:
        from doublets import doublets

        doublets(SHARED)
    if "guard" in parts:
        from guard import guard

        guard(SHARED)
    if "speed" in parts:
        speed(options.data, options.runs)


if __name__ == "__main__":
    main()
