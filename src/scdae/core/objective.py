"""The loss: negative log predictive law of held-out molecules, on sparse minibatches.

The value is that of :mod:`scdae.core.predictive`, summed over observed entries, without the terms that depend on the
counts alone. Over nine entries of ten are zero in both halves and cost one logarithm each; everything else is worked
out on the stored entries only, and zero inflation on the genes that may have it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scdae.core.batches import Batch
from scdae.core.rows import sum_rows

__all__ = [
    "Dropout",
    "Entries",
    "entries_of",
    "log_proportions",
    "log_rising",
    "nb_loss",
    "nb_stored",
    "nb_zeros",
    "poisson_loss",
    "zinb_loss",
]


class Entries(NamedTuple):
    """Stored entries of a batch with what the loss needs at each; padding has no counts and adds 0."""

    x_in: jax.Array  # (k,)
    x_out: jax.Array  # (k,)
    total_in: jax.Array  # (k,) molecules of the entry's cell
    total_out: jax.Array  # (k,)
    log_rho: jax.Array  # (k,)


class Dropout(NamedTuple):
    """Zero inflation of some genes: `c` of them, or their values at `k` entries."""

    theta: jax.Array
    log_drop: jax.Array  # log pi
    log_keep: jax.Array  # log (1 - pi)

    def at(self, index: jax.Array) -> Dropout:
        """Values of the genes in `index`."""
        return Dropout(self.theta[index], self.log_drop[index], self.log_keep[index])


def log_rising(a: jax.Array, n: jax.Array) -> jax.Array:
    """Logarithm of the rising factorial, ``lgamma(a + n) - lgamma(a)``, for positive `a` and zero or positive `n`.

    Both arguments are moved up by four, where Stirling's series is accurate (Abramowitz and Stegun 6.1.41), and its
    leading parts are subtracted on paper, so that large arguments do not cancel.
    """
    low, high = a + 4, a + n + 4
    moved = (a / (a + n)) * ((a + 1) / (a + n + 1)) * ((a + 2) / (a + n + 2)) * ((a + 3) / (a + n + 3))
    series = (1 / high - 1 / low) / 12 - (1 / high**3 - 1 / low**3) / 360
    return n * (jnp.log(high) - 1) + (low - 0.5) * jnp.log1p(n / low) + series + jnp.log(moved)


def log_proportions(logits: jax.Array, observed: jax.Array | None) -> jax.Array:
    """Log of the expected share of each gene in the molecules of the observed genes: softmax over these.

    Entries that were not observed get their share on the same scale: what they would have had on top. A cell in which
    nothing was observed gets the shares of the whole panel.
    """
    if observed is None:
        return logits - jax.nn.logsumexp(logits, axis=1, keepdims=True)
    nothing = ~observed.any(axis=1, keepdims=True)
    seen = jnp.where(observed | nothing, logits, -jnp.inf)
    return logits - jax.nn.logsumexp(seen, axis=1, keepdims=True)


def entries_of(log_rho: jax.Array, batch: Batch, total_in: jax.Array, total_out: jax.Array) -> Entries:
    """Stored entries of `batch` under log proportions (b, n_vars) and totals (b,) of the two halves."""
    flat = batch.rows * log_rho.shape[1] + batch.cols
    at_entry = log_rho.reshape(-1).at[flat].get(mode="promise_in_bounds")
    return Entries(batch.x_in, batch.x_out, total_in[batch.rows], total_out[batch.rows], at_entry)


def poisson_loss(rho: jax.Array, total_out: jax.Array, entries: Entries) -> tuple[jax.Array, jax.Array]:
    """Loss of the Poisson law, as :func:`nb_loss`."""
    log_mean = entries.log_rho + jnp.log(jnp.maximum(entries.total_out, 1e-6))
    return total_out[:, None] * rho, -entries.x_out * log_mean


def nb_loss(
    rho: jax.Array,
    total_in: jax.Array,
    total_out: jax.Array,
    theta: jax.Array,
    entries: Entries,
    theta_at: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Loss of the negative binomial law: what every entry would have as a zero, and what stored ones have on top.

    Parameters
    ----------
    rho
        (b, n) proportions.
    total_in, total_out
        (b,) molecules of each half.
    theta
        (n,) inverse dispersion.
    entries
        Stored entries of the same cells and genes.
    theta_at
        (k,) inverse dispersion at each of them.

    Returns
    -------
    tuple
        (b, n) values to be summed over observed entries, and (k,) values to be added. ``lgamma(x_out + 1)`` is left
        out.
    """
    dense = theta * jnp.log1p(total_out[:, None] * rho / (theta + total_in[:, None] * rho))
    return dense, -nb_stored(entries, theta_at)


@jax.custom_vjp
def nb_zeros(
    log_rho: jax.Array, total_in: jax.Array, total_out: jax.Array, theta: jax.Array, scored: jax.Array | None
) -> jax.Array:
    """Sum of the dense part of :func:`nb_loss`, with its gradient worked out on paper.

    Parameters
    ----------
    log_rho
        (b, n) log proportions.
    total_in, total_out
        (b,) molecules of each half; not differentiated.
    theta
        (n,) inverse dispersion.
    scored
        (n,) or (b, n), boolean: entries that count; None for all.

    Notes
    -----
    With ``l = theta + total_in rho`` and ``h = l + total_out rho``, an entry is ``theta log(h / l)``. Its slope in ``log rho``
    is ``theta^2 total_out rho / (l h)``, and in ``theta`` it is ``log(h / l) - theta total_out rho / (l h)``.
    """
    return _nb_zeros(log_rho, total_in, total_out, theta, scored)[0]


def _nb_zeros(
    log_rho: jax.Array, total_in: jax.Array, total_out: jax.Array, theta: jax.Array, scored: jax.Array | None
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    rho = jnp.exp(log_rho)
    low, more = theta + total_in[:, None] * rho, total_out[:, None] * rho
    logs, ratio = jnp.log1p(more / low), more / (low * (low + more))
    if scored is not None:
        logs, ratio = jnp.where(scored, logs, 0), jnp.where(scored, ratio, 0)
    of_gene = sum_rows(logs)
    return of_gene @ theta, (ratio * theta**2, of_gene - theta * sum_rows(ratio))


def _nb_zeros_backward(slopes: tuple[jax.Array, jax.Array], scale: jax.Array) -> tuple[Any, ...]:
    return scale * slopes[0], None, None, scale * slopes[1], None


nb_zeros.defvjp(_nb_zeros, _nb_zeros_backward)


def zinb_loss(
    rho: jax.Array, total_in: jax.Array, total_out: jax.Array, head: Dropout, entries: Entries, head_at: Dropout
) -> tuple[jax.Array, jax.Array]:
    """Loss of the law with dropout, as :func:`nb_loss`; `rho` and the entries are of the genes in `head` alone."""
    dense, stored = nb_loss(rho, total_in, total_out, head.theta, entries, head_at.theta)
    both = total_in + total_out
    dense = dense - _inflation(both[:, None] * rho, head) + _inflation(total_in[:, None] * rho, head)
    rate = jnp.exp(entries.log_rho)
    after_both = _inflation((entries.total_in + entries.total_out) * rate, head_at)
    after_in = jnp.where(entries.x_in > 0, _inflation(entries.total_in * rate, head_at), 0)
    counted = entries.x_in + entries.x_out > 0
    return dense, stored + jnp.where(counted, after_both - after_in, 0)


def nb_stored(entries: Entries, theta: jax.Array) -> jax.Array:
    """What stored entries have on top of zeros."""
    x_in, x_out, total_in, total_out, log_rho = entries
    total_out = jnp.maximum(total_out, 1e-6)
    log_rate_out = log_rho + jnp.log(total_out)
    rate_out = jnp.exp(log_rate_out)
    rate_in = rate_out * (total_in / total_out)
    stored = log_rising(theta + x_in, x_out) - x_in * jnp.log1p(rate_out / (theta + rate_in))
    return stored + x_out * (log_rate_out - jnp.log(theta + rate_in + rate_out))


def _inflation(mean: jax.Array, head: Dropout) -> jax.Array:
    """Log of how much more likely a zero is with dropout than without, but for the factor ``1 - pi``.

    A zero has probability ``pi + (1 - pi) z`` with ``z = (theta / (theta + mean)) ** theta``; this is the logarithm of
    ``1 + pi / ((1 - pi) z)``, in which that factor cancels between the two halves.
    """
    return jax.nn.softplus(head.log_drop - head.log_keep + head.theta * jnp.log1p(mean / head.theta))
