"""Where training counts on dropout: in the genes whose distribution with dropout is likelier than the one without.

Zeros that are technical say nothing of the cell, and a network that takes them for what the cell expresses learns worse. So
halfway through the training the distributions of the genes are looked at, as they are after it (:mod:`scdae.core.evaluation.law_fit`). Where the data
have dropout at all, every gene in which it could be told is scored by a distribution with dropout from then on. How much it has is
learned with the rest: nothing is decided here that an accident of the first half could turn over.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from scdae.core.distributions.laws import components
from scdae.core.evaluation.heldout import HeldOut
from scdae.core.evaluation.law_fit import fit_laws
from scdae.core.network.parameters import values_of, with_values

__all__ = ["DROPOUT_COST", "candidates", "find_dropout", "observed_means"]

DROPOUT_COST = 3.0  # penalty on a gene's dropout probability, in nats
_LEAST = 0.05  # probability of dropout from which a gene starts, so that it can still find out that it has more
_MOST = (
    0.5  # dispersion from which a gene starts: with more, zeros pass for dispersion, and it learns nothing of its mean
)
_LARGE, _CELLS, _SHARE = 3, 10, 0.01  # counts that make a zero elsewhere surprising, and the cells with one


def candidates(counts: sp.csr_matrix) -> np.ndarray:
    """How far dropout could be told from chance in each gene, from 0 to 1: float64 (n_vars,).

    A zero speaks for dropout only where several molecules were to be expected, so a gene has to reach three in at least
    one cell of a hundred, and in ten cells; with half as many it is not looked at.
    """
    large = np.bincount(counts.indices[counts.data >= _LARGE], minlength=counts.shape[1])
    return np.clip(2 * large / max(_CELLS, _SHARE * counts.shape[0]) - 1, 0, 1)


def find_dropout(graph: Any, params: Any, held_out: HeldOut, seed: int) -> tuple[Any, np.ndarray]:
    """Find the genes to be trained with dropout, and what they start from.

    Parameters
    ----------
    graph, params
        A network trained without dropout.
    held_out
        Molecules that were not trained on, and those that were.
    seed
        Of what is hidden.

    Returns
    -------
    tuple
        Parameters, in which the means of these genes are those before dropout, and bool (n_vars,).
    """
    maybe = candidates(held_out.data.counts)
    inflated = np.zeros(len(maybe), bool)
    some = np.flatnonzero(maybe > 0)
    if not len(some):
        return params, inflated
    laws = fit_laws(graph, params, held_out, maybe, seed, genes=some)
    if laws.dropout is None:
        return params, inflated
    of_gene, chosen = components(laws), np.asarray(laws.dropout.genes)
    genes, lost = some[chosen], np.maximum(of_gene.dropout[chosen], _LEAST)
    values = values_of(params)
    values["logit_pi"][genes] = np.log(lost / (1 - lost))
    values["log_profile"][genes] -= np.log1p(-lost)
    weight = np.asarray(laws.dropout.weight)[-1]  # where these genes are high
    spread = (weight / weight.sum(axis=0) / of_gene.theta[: len(weight), :1]).sum(axis=0)
    values["log_theta_zi"][genes] = -np.log(np.clip(spread, 1e-3, _MOST))
    inflated[genes] = True
    return with_values(params, values), inflated


def observed_means(params: Any, inflated: np.ndarray) -> Any:
    """Return the parameters whose means are those of what is counted, where they were those before dropout."""
    values = values_of(params)
    values["log_profile"][inflated] -= np.logaddexp(0, values["logit_pi"][inflated])
    values["log_theta_zi"] = np.where(inflated, values["log_theta_zi"], values["log_theta"])
    return with_values(params, values)
