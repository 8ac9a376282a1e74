#!/usr/bin/env bash
# In float32, JAX's negative binomial has probabilities above one where counts are close to Poisson.
#
# Expected: with a large size parameter `n`, `jax.scipy.stats.nbinom.logpmf` comes close to the logarithm of the
#   Poisson law.
# What happens: it subtracts logarithms of gamma functions that are about n log n each. In JAX's default precision
#   their difference is lost: errors reach 0.09 at n = 1e5, 0.9 at 1e6 and more than ten at 1e7, of either sign, and at
#   1e8 the "probabilities" of the counts 0 to 59 add up to far more than one. There is no NaN and no warning.
#   SciPy, which the function is named after, works in double precision and is right.
# Seen with: JAX 0.12.0.1 on a CPU, SciPy 1.18.1, Python 3.13.
# Why it matters: `n` is the inverse dispersion. Genes without overdispersion, of which droplet data have many, are
#   fitted with ever larger values of it, and a likelihood that rises by rounding alone pulls the fit there and spoils
#   comparisons of models.
# What scdae does: it subtracts the leading parts of Stirling's series on paper (`core/objective.py`), so that they do
#   not cancel, and takes genes without overdispersion as Poisson.
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    jax==0.12.0.1 jaxlib==0.12.0.1 scipy==1.18.1 numpy==2.5.5

JAX_PLATFORMS=cpu JAX_ENABLE_X64=0 "$work/env/bin/python" -I - <<'PY'
import jax
import jax.scipy.stats as in_jax
import numpy as np
from scipy import stats

assert not jax.config.jax_enable_x64
mean = 3.0
counts = np.arange(60)
total, worst = {}, {}
for size in (1e2, 1e5, 1e6, 1e7, 1e8):
    chance = np.float32(size / (size + mean))
    # SciPy gets the very same rounded chance, so that only the calculation differs.
    seen = np.asarray(in_jax.nbinom.logpmf(counts, size, chance), np.float64)
    right = stats.nbinom.logpmf(counts, size, np.float64(chance))
    worst[size] = np.abs(seen - right)[:10].max()
    total[size] = np.exp(seen).sum()
    print(
        f"n = {size:.0e}: log probabilities of 0 to 9 off by up to {worst[size]:.2g}; "
        f"sum of all probabilities {total[size]:.3g} in JAX, {np.exp(right).sum():.3g} in SciPy"
    )
    assert np.isfinite(seen).all()

assert worst[1e2] < 1e-3
assert worst[1e5] > 0.01
assert worst[1e6] > 0.5
assert worst[1e7] > 10
assert total[1e8] > 1e3
PY
