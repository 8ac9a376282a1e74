#!/usr/bin/env bash
# Clipping a gradient that is merely long sets it to zero, in optax.
#
# Expected: `optax.clip_by_global_norm(1)` brings any finite gradient to the length 1 and keeps its direction. That is
#   what it is for.
# What happens: the length is the root of the sum of squares, worked out in the gradient's own type and without scaling.
#   Squares overflow at 1.8e19 in float32 and at 256 in float16; the length is then infinite, and the gradient is
#   divided by it: all zeros. Nothing is NaN, so neither `optax.apply_if_finite` nor a look at the loss finds it, and
#   the parameters simply stay as they are. In float16 a thousand values of 10 are enough, with a true length of 316.
# Seen with: optax 0.2.8, JAX 0.12.0.1 on a CPU, Python 3.13.
# Why it matters: likelihoods of counts have gradients as large as the counts, so training in half precision, or a
#   badly scaled first step, stops to learn without a sign.
# What scdae does: it does not clip, and keeps parameters and gradients in float32.
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    optax==0.2.8 jax==0.12.0.1 jaxlib==0.12.0.1 numpy==2.5.5 scipy==1.18.1

JAX_PLATFORMS=cpu JAX_ENABLE_X64=0 "$work/env/bin/python" -I -W ignore - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np
import optax

print(f"optax {optax.__version__}, JAX {jax.__version__}")
clip = optax.clip_by_global_norm(1)
after = {}
for size, value, kind in ((1000, 10, "float32"), (1000, 10, "float16"), (4, 1e20, "float32")):
    gradient = jnp.full(size, value, kind)
    assert jnp.isfinite(gradient).all()
    clipped = np.asarray(clip.update(gradient, clip.init(gradient))[0], np.float64)
    after[value, kind] = np.linalg.norm(clipped)
    print(f"{size} values of {value:g} in {kind}: length {np.linalg.norm(np.asarray(gradient, np.float64)):.4g} before, "
          f"{after[value, kind]:.4g} after, optax takes it for {float(optax.global_norm(gradient)):.4g}")

assert abs(after[10, "float32"] - 1) < 1e-3
assert after[10, "float16"] == 0
assert after[1e20, "float32"] == 0
PY
