#!/usr/bin/env bash
# Orbax turns numbers into the type of the template it restores to, and the state of an optimizer into lists.
#
# Expected: a checkpoint gives back what was saved, or says that it does not fit, as it does for another shape.
# What happens: a template of another type is obeyed without a word: 0.7 becomes 0 for int32, and 100000 becomes
#   infinite for float16. Without a template, tuples come back as lists, the named tuples of optax as dictionaries
#   and empty ones as None, so that the optimizer cannot go on with its own state. Another shape is refused.
# Seen with: orbax-checkpoint 0.12.8, optax 0.2.8, JAX 0.12.0.1 on a CPU, Python 3.13.
# Why it matters: templates are often made from a fresh model, whose types follow today's defaults and options. A model
#   trained in float32 and restored in half precision has infinite inverse dispersions where they were above 65504.
# What scdae does: Orbax gets the bytes of the arrays only, and no template (`storage.py`).
set -euo pipefail

python="${PYTHON:-python3.13}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    orbax-checkpoint==0.12.8 optax==0.2.8 jax==0.12.0.1 jaxlib==0.12.0.1 numpy==2.5.5 scipy==1.18.1

cd "$work"
JAX_PLATFORMS=cpu JAX_ENABLE_X64=0 env/bin/python -I -W ignore - "$work/saved" <<'PY'
import importlib.metadata
import sys

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp

print(f"orbax-checkpoint {importlib.metadata.version('orbax-checkpoint')}, optax {optax.__version__}")
path = sys.argv[1]
optimizer = optax.adam(0.1)
params = jnp.array([0.7, 1e5], jnp.float32)
state = optimizer.init(params)
checkpointer = ocp.StandardCheckpointer()
checkpointer.save(path, {"params": params, "state": state})
checkpointer.wait_until_finished()

restored = {}
for kind in (jnp.float32, jnp.int32, jnp.float16):
    template = {"params": jax.ShapeDtypeStruct((2,), kind), "state": state}
    whole = checkpointer.restore(path, template)
    restored[kind] = whole["params"].tolist()
    print(f"saved {params.tolist()} in float32; restored to {jnp.dtype(kind)}: {restored[kind]}")
assert restored[jnp.float32] == params.tolist()
assert restored[jnp.int32] == [0, 100_000]
assert restored[jnp.float16][1] == float("inf")
optimizer.update(params, whole["state"], params)  # with a template, the state is the optimizer's own

plain = checkpointer.restore(path)["state"]
print(f"state {[type(part).__name__ for part in state]}, restored without a template: "
      f"{type(plain).__name__} of {[type(part).__name__ for part in plain]}")
assert isinstance(plain, list) and isinstance(plain[0], dict) and plain[1] is None
try:
    optimizer.update(params, plain, params)
except Exception as error:
    print(f"the optimizer, given that state: {type(error).__name__}: {str(error).splitlines()[0][:100]}")
else:
    raise SystemExit("the optimizer took it")
checkpointer.close()
PY
