#!/usr/bin/env bash
# JAX's binomial and Poisson draws of large counts have the wrong variance, or are all the same number.
#
# Expected: `jax.random.binomial(key, n, p)` has the variance n p (1 - p) for any n, and `jax.random.poisson` one that
#   is its mean.
# What happens: both work in float32 inside. Means are right, but from some ten million on the variances are not: that
#   of a binomial of 1e9 trials is 1.4 to 1.5 times as large, that of a Poisson law of mean 1e9 1.7 times. A Poisson
#   law of mean 3e9 gives 2147483647, the largest int32, for each draw. No error and no warning. NumPy is right.
# Seen with: JAX 0.12.0.1 on a CPU, NumPy 2.5.5, Python 3.13.
# Why it matters: counts of a whole sample (pseudobulk, total reads, depth of sequencing) are that large. Thinning them
#   by binomial draws, and predictive checks by Poisson draws, have too much or too little noise.
# What scdae does: it thins counts with NumPy (`thinning.py`), and minibatches by a formula of its own (`on_device.py`).
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    jax==0.12.0.1 jaxlib==0.12.0.1 scipy==1.18.1 numpy==2.5.5

JAX_PLATFORMS=cpu JAX_ENABLE_X64=0 "$work/env/bin/python" -I - <<'PY'
import jax
import numpy as np

print(f"JAX {jax.__version__}, NumPy {np.__version__}")
key, rng, draws = jax.random.key(0), np.random.default_rng(0), 20_000  # standard error of a variance: 1 %
thinned, poisson = {}, {}
for n in (1e5, 1e9):
    for p in (0.1, 0.5):
        seen = np.asarray(jax.random.binomial(key, n, p, (draws,)), np.float64)
        peer = rng.binomial(int(n), p, draws)
        variance = n * p * (1 - p)
        thinned[n, p] = seen.var() / variance
        print(f"binomial, n = {n:g}, p = {p}: mean {seen.mean() / (n * p):.4f} times the right one, variance "
              f"{thinned[n, p]:.3f} times in JAX, {peer.var() / variance:.3f} times in NumPy")
        assert abs(seen.mean() / (n * p) - 1) < 1e-3
        assert abs(peer.var() / variance - 1) < 0.05
for mean in (1e5, 1e9, 3e9):
    seen = np.asarray(jax.random.poisson(key, mean, (draws,)), np.float64)
    poisson[mean] = seen.var() / mean
    print(f"Poisson, mean {mean:g}: mean {seen.mean():.0f}, variance {poisson[mean]:.3f} times the right one in JAX, "
          f"{rng.poisson(mean, draws).var() / mean:.3f} times in NumPy")

assert all(abs(thinned[1e5, p] - 1) < 0.05 for p in (0.1, 0.5))
assert all(thinned[1e9, p] > 1.2 for p in (0.1, 0.5))
assert abs(poisson[1e5] - 1) < 0.05 and poisson[1e9] > 1.3
assert poisson[3e9] == 0 and seen.max() == 2**31 - 1
PY
