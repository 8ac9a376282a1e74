"""Exchange model files and results between two Pythons with other versions of everything, and say how far apart they are.

``python .ci/stacks.py PYTHON PYTHON [MORE PYTHONS]``: each trains on the same counts, saves the model, restores and writes .h5ad and
.zarr. Then each reads what the others wrote, restores with their models and compares. Ends with 1 if something cannot be read or
restored values are more than 1e-3 apart (relative, with 0.01 molecules as the least). scdae is that of this checkout.
"""

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 1e-3
LEAST = 0.01  # molecules
SETTINGS = {"batch_key": "batch", "max_epochs": 10, "seed": 0}
OUTPUTS = ("mean", "log1p", "sd")


def _apart(found, expected):
    import numpy as np

    found, expected = (np.asarray(values, np.float64) for values in (found, expected))
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float((np.abs(found - expected) / np.maximum(np.abs(expected), LEAST)).max())


def _counts():
    """Cells of three types in two batches; drawn by plain NumPy, whose streams stay, so all stacks have the same."""
    import anndata as ad
    import numpy as np
    import pandas as pd
    import scipy.sparse as sp

    rng = np.random.default_rng(0)
    kind, batch = rng.integers(0, 3, 300), rng.integers(0, 2, 300)
    mean = rng.gamma(1.0, 2.0, (3, 80))[kind] * np.where(batch[:, None] == 1, rng.gamma(20.0, 0.05, 80), 1.0)
    obs = pd.DataFrame({"batch": np.array(["one", "two"])[batch]}, index=[f"cell_{i}" for i in range(300)])
    var = pd.DataFrame(index=[f"gene_{j}" for j in range(80)])
    return ad.AnnData(sp.csr_matrix(rng.poisson(mean).astype(np.float32)), obs=obs, var=var)


def write(folder: Path) -> None:
    """Train, save and restore: what one stack leaves for the others."""
    import numpy as np

    import scdae

    adata = _counts()
    model = scdae.DAE(max_epochs=SETTINGS["max_epochs"], seed=SETTINGS["seed"]).fit(
        adata, batch_key=SETTINGS["batch_key"]
    )
    model.save(folder / "model.scdae")
    scdae.pp.impute(adata, model=model, output=OUTPUTS, quantiles=(0.1, 0.9))
    adata.write_h5ad(folder / "out.h5ad")
    adata.write_zarr(folder / "out.zarr")
    layers = {name: np.asarray(values) for name, values in adata.layers.items() if name is not None}
    np.savez(folder / "layers.npz", latent=adata.obsm["X_scdae"], **layers)
    versions = {
        "Python": sys.version.split()[0],
        **{name: version(name) for name in ("anndata", "jax", "numpy", "pandas")},
    }
    (folder / "versions.json").write_text(json.dumps(versions))


def read(own: Path, other: Path) -> dict[str, float]:
    """Read what another stack wrote; the largest relative differences."""
    import anndata as ad
    import numpy as np

    import scdae

    with np.load(other / "layers.npz") as file:
        expected = dict(file)
    latent = expected.pop("latent")
    found = {}
    for name, reader in (("out.h5ad", ad.read_h5ad), ("out.zarr", ad.read_zarr)):
        adata = reader(other / name)
        stored = [_apart(adata.layers[layer], values) for layer, values in expected.items()]
        found[f"{name} as it was written"] = max(*stored, _apart(adata.obsm["X_scdae"], latent))
        scdae.get.report(adata)
    model = scdae.DAE.load(other / "model.scdae")
    adata = _counts()
    scdae.pp.impute(adata, model=model, output=OUTPUTS, quantiles=(0.1, 0.9))
    if set(expected) != {name for name in adata.layers if name is not None}:
        raise SystemExit(f"other layers: {sorted(map(str, adata.layers))}, {sorted(expected)}")
    for layer, values in expected.items():
        found[f"restored with its model, {layer}"] = _apart(adata.layers[layer], values)
    found["latent with its model"] = _apart(adata.obsm["X_scdae"] / np.abs(latent).max(), latent / np.abs(latent).max())
    with np.load(own / "layers.npz") as file:
        found["(a training of each)"] = _apart(file["scdae"], expected["scdae"])
    return found


def _run(python: str, *words: object) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([python, __file__, *map(str, words)], env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{python}: {words[0]} {' '.join(map(str, words[1:]))} failed")
    return done.stdout


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(pythons: list[str]) -> int:
    """Let each of the stacks write and read the others' files; 1 where that goes wrong."""
    if len(pythons) < 2:
        raise SystemExit(__doc__)
    worst = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary, str(i)) for i in range(len(pythons))]
        for python, folder in zip(pythons, folders, strict=True):
            folder.mkdir()
            _run(python, "write", folder)
        names = [
            ", ".join(f"{k} {v}" for k, v in json.loads((f / "versions.json").read_text()).items()) for f in folders
        ]
        for i, python in enumerate(pythons):
            for j, folder in enumerate(folders):
                if i == j:
                    continue
                _say(f"{names[j]}  read by  {names[i]}")
                for what, apart in json.loads(_run(python, "read", folders[i], folder)).items():
                    _say(f"  {what:<40} {apart:.1e}")
                    worst = max(worst, apart if not what.startswith("(") else 0.0)
    _say(f"largest relative difference {worst:.1e}; at most {LIMIT:g}")
    return int(not worst <= LIMIT)


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        write(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["read"]:
        sys.stdout.write(json.dumps(read(Path(sys.argv[2]), Path(sys.argv[3]))))
    else:
        raise SystemExit(main(sys.argv[1:]))
