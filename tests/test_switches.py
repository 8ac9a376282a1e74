"""What users switch on in JAX changes nothing: one training on four devices under several switches, held against one without."""

import os
import subprocess
import sys

import numpy as np

import scdae

# Of the environment. The whole suite runs with strict promotion (conftest), and under x64 and the guard of transfers where these are set.
SWITCHES = {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": "4",
    "JAX_DEBUG_NANS": "1",
    "JAX_DEBUG_KEY_REUSE": "1",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
}
CODE = """
import sys
import jax
import numpy as np
import scdae
adata = scdae.datasets.simulate(n_cells=120, n_genes=30, n_types=3, seed=0)
adata.layers["seen"] = np.random.default_rng(0).random(adata.shape) < 0.9
scdae.pp.impute(adata, batch_key="batch", mask="seen", max_epochs=2, batch_size=64, devices=4)
np.savez(sys.argv[1], restored=adata.layers["scdae"], devices=len(jax.devices()),
         switches=[jax.config.jax_debug_nans, jax.config.jax_debug_key_reuse, jax.config.jax_numpy_dtype_promotion,
                   jax.config.jax_numpy_rank_promotion])
"""


def test_a_training_under_switches_of_jax(tmp_path, monkeypatch):
    for name, value in SWITCHES.items():
        monkeypatch.setenv(name, value)
    # two devices of conftest are another way to ask for the same
    kept = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    monkeypatch.setenv("XLA_FLAGS", " ".join(kept))
    command = [sys.executable, "-W", "error::DeprecationWarning", "-c", CODE, str(tmp_path / "found.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.load(tmp_path / "found.npz")
    assert found["devices"] == 4 and found["switches"].tolist() == ["True", "True", "strict", "raise"]
    adata = scdae.datasets.simulate(n_cells=120, n_genes=30, n_types=3, seed=0)
    adata.layers["seen"] = np.random.default_rng(0).random(adata.shape) < 0.9
    scdae.pp.impute(adata, batch_key="batch", mask="seen", max_epochs=2, batch_size=64)
    np.testing.assert_allclose(
        found["restored"], adata.layers["scdae"], rtol=5e-3, atol=1e-3
    )  # four devices round otherwise
