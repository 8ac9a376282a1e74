"""The loss: negative log predictive probability of held-out molecules, on sparse minibatches.

It is the value of :mod:`scdae.core.distributions.predictive`, summed over observed entries, without terms that depend
on the counts only. More than nine of ten entries are zero in both halves and cost one logarithm each. Everything else
is computed on the stored entries only, and zero inflation only for the genes that may have it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scdae.core.data.cell_sums import sum_rows
from scdae.core.data.minibatch import Batch
from scdae.core.distributions.zeros import nb_zero_loss

__all__ = [
    "Dropout",
    "Entries",
    "entries_of",
    "log_norm",
    "log_proportions",
    "log_rising",
    "nb_loss",
    "nb_stored",
    "nb_sum",
    "poisson_loss",
    "zinb_loss",
]


class Entries(NamedTuple):
    """Stored entries of a batch, with what the loss needs for each; padding has count zero and adds nothing."""

    x_in: jax.Array  # (k,)
    x_out: jax.Array  # (k,)
    total_in: jax.Array  # (k,) molecules of the entry's cell
    total_out: jax.Array  # (k,)
    log_rho: jax.Array  # (k,)


class Dropout(NamedTuple):
    """Zero inflation of `c` genes, or its values at `k` entries of these."""

    theta: jax.Array
    log_drop: jax.Array  # log pi
    log_keep: jax.Array  # log (1 - pi)

    def at(self, index: jax.Array) -> Dropout:
        """Select the genes in `index`."""
        return Dropout(self.theta[index], self.log_drop[index], self.log_keep[index])


def log_rising(a: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute the log of the rising factorial, ``lgamma(a + n) - lgamma(a)``, and its derivative in `a`.

    The derivative is ``digamma(a + n) - digamma(a)``; `a` is positive, and `n` is not negative. Both arguments are
    shifted up by four, where Stirling's series is accurate (Abramowitz and Stegun 6.1.41 and 6.3.18), and the
    difference of its leading terms is taken analytically, so that large arguments do not cancel.
    """
    low, high = a + 4, a + n + 4
    up, down, logs = 1 / high, 1 / low, jnp.log1p(n / low)
    moved = (a / (a + n)) * ((a + 1) / (a + n + 1)) * ((a + 2) / (a + n + 2)) * ((a + 3) / (a + n + 3))
    series = (up - down) / 12 - (up**3 - down**3) / 360
    value = n * (jnp.log(high) - 1) + (low - 0.5) * logs + series + jnp.log(moved)
    steps = sum((n / ((a + i) * (a + n + i)) for i in range(1, 4)), n / (a * (a + n)))
    return value, logs + (down - up) / 2 + (down**2 - up**2) / 12 - (down**4 - up**4) / 120 + steps


def log_norm(logits: jax.Array, observed: jax.Array | None) -> jax.Array:
    """Compute the log of the sum over observed genes, (b, 1); over all genes in a cell without observed genes."""
    if observed is not None:
        logits = jnp.where(observed | ~observed.any(axis=1, keepdims=True), logits, -jnp.inf)
    return jax.nn.logsumexp(logits, axis=1, keepdims=True)


def log_proportions(logits: jax.Array, observed: jax.Array | None) -> jax.Array:
    """Compute the log of each gene's expected fraction of the molecules of the observed genes: softmax over these.

    Missing values get a fraction on the same scale, in addition to the sum of 1 over observed genes. A cell without
    observed genes gets fractions of the whole panel.
    """
    return logits - log_norm(logits, observed)


def entries_of(logits: jax.Array, batch: Batch, norm: jax.Array | None = None) -> Entries:
    """Collect the stored entries of `batch`, with logits (b, n_vars) minus `norm` (b, 1); None for log proportions."""
    flat = batch.rows * logits.shape[1] + batch.cols
    at_entry = logits.reshape(-1).at[flat].get(mode="promise_in_bounds")
    if norm is not None:
        at_entry -= norm[batch.rows, 0]
    return Entries(batch.x_in, batch.x_out, batch.total_in[batch.rows], batch.total_out[batch.rows], at_entry)


def poisson_loss(rho: jax.Array, total_out: jax.Array, entries: Entries) -> tuple[jax.Array, jax.Array]:
    """Compute the loss of the Poisson distribution, as :func:`nb_loss`."""
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
    """Compute the loss of the negative binomial: of every entry as if it were zero, and what non-zeros add to it.

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
        (b, n) values to be summed over observed entries, and (k,) values to be added, without
        ``lgamma(x_out + 1)``.
    """
    of_gene = theta[None, :]
    dense = of_gene * jnp.log1p(total_out[:, None] * rho / (of_gene + total_in[:, None] * rho))
    return dense, -nb_stored(entries, theta_at)


@jax.custom_vjp
def nb_sum(
    logits: jax.Array, theta: jax.Array, batch: Batch, observed: jax.Array | None = None, genes: Any = None
) -> tuple[jax.Array, jax.Array]:
    """Sum :func:`nb_loss` over the observed entries, with an analytical gradient.

    Parameters
    ----------
    logits
        (b, n) log proportions, up to a constant in each cell.
    theta
        (n,) inverse dispersion.
    batch
        Counts of the cells; not differentiated.
    observed
        bool (b, n): entries over which the proportions are normalized and the loss is summed; None for all.
    genes
        bool (n,): genes over which the loss is summed; None for all.

    Returns
    -------
    tuple
        The sum, and the cells' :func:`log_norm`, (b, 1): log proportions are ``logits - log_norm``.

    Notes
    -----
    With ``l = theta + total_in rho`` and ``h = l + total_out rho``, the loss of a zero is ``theta log(h / l)``. Its
    derivative in ``log rho`` is ``theta^2 total_out rho / (l h)``, and in ``theta`` ``log(h / l) - theta total_out rho
    / (l h)``. Logarithms are summed over cells, so one logarithm of a product serves four cells.
    """
    return _nb_sum(logits, theta, batch, observed, genes)[0]


def _nb_sum(
    logits: jax.Array, theta: jax.Array, batch: Batch, observed: jax.Array | None, genes: Any
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, ...]]:
    seen = logits
    if observed is not None:  # missing values have proportion zero, and so add nothing below
        seen = jnp.where(observed | ~observed.any(axis=1, keepdims=True), logits, -jnp.inf)
    top = seen.max(axis=1, keepdims=True)
    share = jnp.exp(seen - top)
    total = share.sum(axis=1, keepdims=True)
    rho, norm = share * (1 / total), top + jnp.log(total)

    low, more = theta[None, :] + batch.total_in[:, None] * rho, batch.total_out[:, None] * rho
    excess, ratio = more / low, more / (low * (low + more))
    entries = entries_of(logits, batch, norm)
    value, of_log_rho, of_theta = _stored_and_slopes(entries, theta[batch.cols])
    if genes is not None:
        excess, ratio = jnp.where(genes, excess, 0), jnp.where(genes, ratio, 0)
        value, of_log_rho, of_theta = (jnp.where(genes[batch.cols], x, 0) for x in (value, of_log_rho, of_theta))
    of_gene, flat = sum_rows(jnp.log1p(_together(excess))), batch.rows * logits.shape[1] + batch.cols
    slope = (
        (ratio * (theta**2)[None, :])
        .reshape(-1)
        .at[flat]
        .add(-of_log_rho, mode="promise_in_bounds")
        .reshape(logits.shape)
    )
    in_theta = (of_gene - theta * sum_rows(ratio)).at[batch.cols].add(-of_theta)
    return (of_gene @ theta - value.sum(), norm), (slope, slope.sum(axis=1, keepdims=True), rho, in_theta)


def _nb_sum_backward(kept: tuple[jax.Array, ...], scales: tuple[jax.Array, jax.Array]) -> tuple[Any, ...]:
    slope, of_cell, rho, in_theta = kept
    scale, of_norm = scales
    return scale * slope + rho * (of_norm - scale * of_cell), scale * in_theta, None, None, None


nb_sum.defvjp(_nb_sum, _nb_sum_backward)


def _together(excess: jax.Array) -> jax.Array:
    """Combine pairs of rows, twice if possible: ``(1 + a) (1 + b) - 1``, computed without loss for small numbers."""
    excess = jnp.minimum(excess, 1e9)  # so that four can be multiplied
    for _ in range(2):
        half = excess.shape[0] // 2
        if 2 * half == excess.shape[0]:
            one, other = excess[:half], excess[half:]
            excess = one + other + one * other
    return excess


def zinb_loss(
    rho: jax.Array, total_in: jax.Array, total_out: jax.Array, head: Dropout, entries: Entries, head_at: Dropout
) -> tuple[jax.Array, jax.Array]:
    """Compute the loss with dropout, as :func:`nb_loss`; `rho` and entries are of the genes in `head` only."""
    dense, stored = nb_loss(rho, total_in, total_out, head.theta, entries, head_at.theta)
    both = total_in + total_out
    of_gene = Dropout(*(values[None, :] for values in head))
    dense = dense - _inflation(both[:, None] * rho, of_gene) + _inflation(total_in[:, None] * rho, of_gene)
    rate = jnp.exp(entries.log_rho)
    after_both = _inflation((entries.total_in + entries.total_out) * rate, head_at)
    after_in = jnp.where(entries.x_in > 0, _inflation(entries.total_in * rate, head_at), 0)
    counted = entries.x_in + entries.x_out > 0
    return dense, stored + jnp.where(counted, after_both - after_in, 0)


def nb_stored(entries: Entries, theta: jax.Array) -> jax.Array:
    """Compute the loss of stored entries beyond that of zeros."""
    return _stored_and_slopes(entries, theta)[0]


def _stored_and_slopes(entries: Entries, theta: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Compute :func:`nb_stored` and its derivatives in the log proportions and in `theta`."""
    x_in, x_out, total_in, total_out, log_rho = entries
    total_out, rho = jnp.maximum(total_out, 1e-6), jnp.exp(log_rho)
    rate_out, low = total_out * rho, theta + total_in * rho
    high = low + rate_out
    rising, of_rising = log_rising(theta + x_in, x_out)
    value = rising - x_in * jnp.log1p(rate_out / low) + x_out * (log_rho + jnp.log(total_out) - jnp.log(high))
    surprise = (x_out - x_in * rate_out / low) / high
    return value, theta * surprise, of_rising - surprise


def _inflation(mean: jax.Array, head: Dropout) -> jax.Array:
    """Compute the log ratio of the probabilities of a zero with and without dropout, without the factor ``1 - pi``.

    A zero has probability ``pi + (1 - pi) z`` with ``z = (theta / (theta + mean)) ** theta``. The result is the log of
    ``1 + pi / ((1 - pi) z)``; the factor ``1 - pi`` cancels between the two halves.
    """
    return jax.nn.softplus(head.log_drop - head.log_keep + nb_zero_loss(mean, head.theta))
