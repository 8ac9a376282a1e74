#!/usr/bin/env bash
# In float32, JAX's incomplete gamma and beta functions are off by percents, or by factors, for large arguments.
#
# Expected: in single precision `jax.scipy.special.gammainc` and `betainc` are right to six digits, or nearly so.
# What happens: near the middle of the distribution `gammainc(a, x)` errs by 0.3 % at a = 1e4, by 8 % at 1e5 and by
#   more than half at 1e6; `betainc(a, b, x)` with a large first and a tiny second argument is several, and up to sixty,
#   times too large. All values lie between 0 and 1. There is no NaN and no warning. SciPy is right.
# Seen with: JAX 0.12.0.1 on a CPU, SciPy 1.18.1, Python 3.13.
# Why it matters: these two are the distribution functions of the Poisson and gamma laws and of the negative binomial.
#   p values, quantiles and credible intervals of the counts of abundant genes, and of genes with a strong
#   overdispersion, are made of them.
# What scdae does: it takes distribution functions and quantiles from SciPy in float64 and does not call these two.
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
from jax.scipy import special as in_jax
from scipy import special

print(f"JAX {jax.__version__}")
error = {}
for shape in (10, 1e4, 1e5, 1e6):
    a = np.float32(shape)
    x = a + np.sqrt(a) * np.array([-1, -0.5, 0, 0.5, 1], np.float32)  # within one standard deviation of the mean
    seen = np.asarray(in_jax.gammainc(a, x))
    right = special.gammainc(np.float64(a), x.astype(np.float64))  # the very same rounded arguments
    error[shape] = abs(seen / right - 1).max()
    print(f"gammainc, a = {shape:g}: {np.round(seen, 4)} in JAX, {np.round(right, 4)} in SciPy; error {error[shape]:.1%}")
assert error[10] < 1e-5
assert error[1e4] > 1e-3
assert error[1e5] > 0.03
assert error[1e6] > 0.3

ratio = {}
for a, b, x in ((10, 2, 0.8), (1e4, 1e-2, 0.9999), (1e5, 1e-3, 0.99999), (1e6, 1e-2, 0.999999)):
    rounded = [np.float32(value) for value in (a, b, x)]
    seen = float(in_jax.betainc(*rounded))
    right = float(special.betainc(*map(np.float64, rounded)))
    ratio[a] = seen / right
    print(f"betainc({a:g}, {b:g}, {x:g}): {seen:.5f} in JAX, {right:.5f} in SciPy; {ratio[a]:.2f} times")
assert abs(ratio[10] - 1) < 1e-5
assert ratio[1e4] > 2 and ratio[1e5] > 10 and ratio[1e6] > 10
PY
