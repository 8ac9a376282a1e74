#!/usr/bin/env bash
# Importing scikit-bio switches JAX to double precision for the whole process.
#
# Expected: importing a library that reads sequences leaves the numerical settings of another library alone.
# What happens: where JAX is installed, `import skbio` loads scikit-bio's module of helpers for tests, which turns on
#   `jax_enable_x64` as it is imported. From then on `jnp.zeros(3)` is float64. Nothing is said. What was compiled
#   before compiles again, arrays take twice the memory, loops whose state was made of
#   both kinds of floats fail, and results differ from those of the same notebook without the import.
# Seen with: scikit-bio 0.7.4, JAX 0.12.0.1, Python 3.13.
# Why it matters: 16S genes are read with scikit-bio and then modeled in JAX, in this order, in one process. The order
#   of imports decides the precision of the model.
# What scdae does: its FASTA reader sets JAX back to what it was before the import (`fasta.py`), and its own code
#   names the type of each array, so that it works in either precision. If you import scikit-bio yourself:
#   `jax.config.update("jax_enable_x64", False)` behind it.
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    scikit-bio==0.7.4 jax==0.12.0.1 jaxlib==0.12.0.1 numpy==2.5.5 scipy==1.18.1

JAX_PLATFORMS=cpu JAX_ENABLE_X64=0 "$work/env/bin/python" -I -W ignore - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np


@jax.jit
def total(counts):
    global compiled
    compiled += 1  # runs only while JAX traces the function, once for each type of input
    return jnp.log1p(counts).sum()


compiled = 0
total(np.array([1.0, 2.0]))
before = jnp.zeros(3).dtype
print(f"before: jax_enable_x64 is {jax.config.jax_enable_x64}, zeros are {before}, compiled {compiled} time")
assert not jax.config.jax_enable_x64
assert before == "float32" and compiled == 1

import skbio  # noqa: E402

total(np.array([1.0, 2.0]))
after = jnp.zeros(3).dtype
print(f"after import skbio {skbio.__version__}: {jax.config.jax_enable_x64}, zeros are {after}, compiled {compiled} x")
assert jax.config.jax_enable_x64
assert after == "float64" and compiled == 2

jax.config.update("jax_enable_x64", False)
assert jnp.zeros(3).dtype == "float32"
assert skbio.DNA("ACGT").gc_content() == 0.5  # scikit-bio itself does not need it
PY
