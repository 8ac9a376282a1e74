#!/usr/bin/env bash
# Flax's BatchNorm and LayerNorm scale large values by a factor in the hundreds.
#
# Expected: a normalization layer gives values with a mean of 0 and a standard deviation of 1, wherever the values lie.
# What happens: by default (`use_fast_variance=True`) Flax works out the variance as the mean of the squares less the
#   square of the mean, in float32. Where the mean is some thousand times the standard deviation, the difference is
#   rounding; below zero it is cut to zero, and only the layer's epsilon of 1e-5 is left to divide by. Four values
#   10000 to 10003 come out between -474 and 474 in place of -1.34 to 1.34. No NaN and no warning; with
#   `use_fast_variance=False` they are right.
# Seen with: Flax 0.12.12, JAX 0.12.0.1 on a CPU, Python 3.13.
# Why it matters: library sizes, ages or coordinates in micrometers as inputs beside the genes, and counts that were not
#   transformed, have such means. The network then sees inputs hundreds of times too large, from one column alone.
# What scdae does: its network has no such layer.
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    flax==0.12.12 jax==0.12.0.1 jaxlib==0.12.0.1 numpy==2.5.5 scipy==1.18.1

JAX_PLATFORMS=cpu JAX_ENABLE_X64=0 "$work/env/bin/python" -I -W ignore - <<'PY'
import flax
import jax
import numpy as np
from flax import nnx

print(f"Flax {flax.__version__}, JAX {jax.__version__}")
column = np.array([[0], [1], [2], [3]], np.float32)
right = (column - column.mean()) / column.std()
largest = {}
for shift in (0, 1e4):
    values = column + np.float32(shift)  # whole numbers below 2**24: exact in float32
    for fast in (None, False):
        options = {} if fast is None else {"use_fast_variance": fast}
        by_column = nnx.BatchNorm(1, rngs=nnx.Rngs(0), **options)(values)
        by_row = nnx.LayerNorm(4, rngs=nnx.Rngs(0), **options)(values.T)
        largest[shift, fast] = float(abs(by_column).max()), float(abs(by_row).max())
        print(f"{shift:g} to {shift + 3:g}, {options or 'default'}: {np.round(np.ravel(by_column), 2)} by BatchNorm, "
              f"{np.round(np.ravel(by_row), 2)} by LayerNorm")

assert np.allclose(largest[0, None], right.max(), atol=0.01)
assert np.allclose(largest[1e4, False], right.max(), atol=0.01)
assert min(largest[1e4, None]) > 100
PY
