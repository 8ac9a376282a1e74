"""Restore counts with a peer, through the referee's adapters, in the peer's own environment."""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse as sp

VENVS = Path(os.environ.get("PEER_VENVS", Path.home() / ".cache/denoise-bench/venvs"))
CACHE = Path(__file__).resolve().parent / "output/peers"
# shown name: name in the referee's registry, variant of its output
PEERS = {
    "MAGIC": ("magic", ""),
    "ALRA (halra)": ("halra", ""),
    "SVD, rank chosen": ("svd_mcv", ""),
    "scVI": ("scvi", ".observed"),
}
ON_REQUEST = {"DCA": ("dca", "")}  # slow to install and to run
NEEDS = {
    "scib": ["scib-metrics", "harmonypy"],
    "magic": ["magic-impute", "numpy<2", "scikit-learn<1.2", "pandas<2.1"],
    "halra": ["halra"],
    "base": ["scvi-tools"],
    "dca": [
        *("tensorflow-cpu==2.15.1", "scanpy==1.9.8", "anndata<0.11", "numpy<2", "pandas<2.1", "scipy<1.13"),
        *("matplotlib<3.9", "six", "setuptools<80"),
    ],
}
# DCA 0.3.4 asks for a TensorFlow that no current Python has. With a later one it runs after these replacements: modules
# that moved, an optimizer of the old kind, a session that would forget the weights, and a tuner that is not used.
ALONE = {"dca": ["dca==0.3.4"]}  # installed without what they ask for
MENDED = {
    "dca": [
        ("dca/layers.py", "keras.engine.topology", "keras.layers"),
        ("dca/layers.py", "keras.engine.base_layer", "keras.layers"),
        ("dca/network.py", "keras.objectives", "keras.losses"),
        ("dca/train.py", "from .hyper import hyper\n", ""),
        ("dca/train.py", "import keras.optimizers as opt", "import keras.optimizers.legacy as opt"),
        ("dca/train.py", "tf.compat.v1.keras.backend.set_session(", "(lambda session: None)("),
    ]
}


def restore(shared: Path, name: str, counts: sp.csr_matrix, genes: np.ndarray, seed: int = 0) -> np.ndarray:
    """Counts restored by one of :data:`PEERS` or :data:`ON_REQUEST`, float32 (n_obs, n_vars); kept for a later run on the same counts."""
    method, variant = (PEERS | ON_REQUEST)[name]
    how = _registry(shared)[method]
    digest = hashlib.sha256(repr((method, variant, how, seed, counts.shape)).encode())
    for part in (counts.data, counts.indices, counts.indptr):
        digest.update(np.ascontiguousarray(part).tobytes())
    kept = CACHE / f"{method}-{digest.hexdigest()[:16]}.npy"
    if kept.exists():
        return np.load(kept)
    python = sys.executable if method == "svd_mcv" else environment_of(how["venv"])
    with tempfile.TemporaryDirectory(prefix="scdae-peer-") as folder:
        sp.save_npz(f"{folder}/train.npz", counts)
        np.save(f"{folder}/genes.npy", np.asarray(genes, dtype=str))
        command = [python, shared / "bench/worker.py", "--dir", folder, "--report", f"{folder}/report.json"]
        command += ["--module", shared / "bench/peers" / how["module"], "--func", how["func"]]
        command += ["--kwargs", json.dumps(how["kwargs"]), "--seed", seed]
        env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
        done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        restored = np.load(f"{folder}/pred{variant}.npy")
    CACHE.mkdir(parents=True, exist_ok=True)
    np.save(kept, restored)
    return restored


class Worker:
    """The referee's worker on some counts, as a command to be timed; what it needs is kept as long as the object."""

    def __init__(self, shared: Path, name: str, path: str, least: str):
        import anndata

        how = _registry(shared)[PEERS[name][0]]
        adata = anndata.read_h5ad(path)
        kept = np.asarray((adata.X > 0).sum(axis=0)).ravel() >= int(least)
        self._folder = tempfile.TemporaryDirectory(prefix="scdae-peer-")
        folder = self._folder.name
        sp.save_npz(f"{folder}/train.npz", sp.csr_matrix(adata.X[:, kept]))
        np.save(f"{folder}/genes.npy", np.asarray(adata.var_names[kept], dtype=str))
        command = [environment_of(how["venv"]), shared / "bench/worker.py", "--dir", folder]
        command += ["--report", f"{folder}/report.json", "--module", shared / "bench/peers" / how["module"]]
        command += ["--func", how["func"], "--kwargs", json.dumps(how["kwargs"]), "--seed", 0]
        self.command = list(map(str, command))


def _registry(shared: Path) -> dict:
    """Of the referee: how each method is called."""
    spec = importlib.util.spec_from_file_location("registry", shared / "bench/peers/registry.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.METHODS


def environment_of(name: str) -> Path:
    """Interpreter of a peer's environment, which is made when it is not there, and removed again when that fails."""
    python = VENVS / name / "bin/python"
    if not python.exists():
        print(
            f"Installing {', '.join(ALONE.get(name, []) + NEEDS[name])} into {VENVS / name}",
            file=sys.stderr,
            flush=True,
        )
        try:
            subprocess.run([sys.executable, "-m", "venv", VENVS / name], check=True)
            pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
            subprocess.run([*pip, *NEEDS[name]], check=True)
            if name in ALONE:
                subprocess.run([*pip, "--no-deps", *ALONE[name]], check=True)
            _mend(python, MENDED.get(name, []))
        except (subprocess.CalledProcessError, RuntimeError, KeyboardInterrupt):
            shutil.rmtree(VENVS / name)
            raise
    return python


def _mend(python: Path, replacements: list[tuple[str, str, str]]) -> None:
    """Replace text in installed files."""
    if not replacements:
        return
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.run([python, "-c", where], check=True, capture_output=True, text=True).stdout.strip())
    for file, old, new in replacements:
        text = (packages / file).read_text()
        if old not in text:
            raise RuntimeError(f"{file} has no {old!r}: another version than the one that benchmarks/peers.py mends?")
        (packages / file).write_text(text.replace(old, new))
