#!/usr/bin/env bash
# Parameters that are masked out of an optax optimizer move up the gradient, at a learning rate of one.
#
# Expected: `optax.masked(optimizer, mask)` trains what the mask marks and leaves the rest as it is.
# What happens: the mask decides which gradients the optimizer transforms; the others pass through as they are, with
#   their sign, and `optax.apply_updates` adds them. A parameter that was to be frozen goes *up* the slope of the loss
#   by the whole gradient at each step. `optax.freeze` is what keeps it. (`optax.apply_if_finite` is like that, too:
#   it lets a NaN through once it has seen more than the given number in a row.)
# Seen with: optax 0.2.8, JAX 0.12.0.1 on a CPU, Python 3.13.
# Why it matters: fine-tuning a model on new cells with the decoder, or the dispersions of the genes, kept fixed is the
#   usual way to map a query. The loss may still fall, as the rest makes up for it.
# What scdae does: it freezes by `optax.set_to_zero` under a mask, behind all other steps (`optimizer.py`).
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    optax==0.2.8 jax==0.12.0.1 jaxlib==0.12.0.1 numpy==2.5.5 scipy==1.18.1

JAX_PLATFORMS=cpu "$work/env/bin/python" -I -W ignore - <<'PY'
import jax
import jax.numpy as jnp
import optax

print(f"optax {optax.__version__}, JAX {jax.__version__}")


def loss(params):
    """Least where both are zero."""
    return params["trained"] ** 2 + params["frozen"] ** 2


def train(optimizer, steps=3):
    params = {"trained": jnp.float32(1), "frozen": jnp.float32(1)}
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
    return {name: float(value) for name, value in params.items()}


mask = {"trained": True, "frozen": False}
masked = train(optax.masked(optax.sgd(0.1), mask))
print(f"masked: {masked}")
assert masked["trained"] < 1
assert masked["frozen"] == 27  # 1 + 2 = 3, 3 + 6 = 9, 9 + 18 = 27

apart = train(optax.chain(optax.sgd(0.1), optax.freeze({"trained": False, "frozen": True})))
print(f"with optax.freeze: {apart}")
assert apart["frozen"] == 1 and apart["trained"] == masked["trained"]

guarded = optax.apply_if_finite(optax.sgd(0.1), max_consecutive_errors=2)
value, state, seen = jnp.float32(1), guarded.init(jnp.float32(1)), []
for _ in range(3):
    update, state = guarded.update(jnp.float32(jnp.nan), state, value)
    value = optax.apply_updates(value, update)
    seen.append(float(value))
print(f"apply_if_finite with up to 2 in a row, at three gradients of NaN: {seen}")
assert seen[:2] == [1, 1] and seen[2] != seen[2]
PY
