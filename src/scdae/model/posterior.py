"""The posterior in the open: how sure each restored count is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from scdae.arguments.objects import spelled
from scdae.core.data.conditions import Conditions
from scdae.core.data.extreme_counts import extreme_entries, put_back
from scdae.core.distributions import posterior as law
from scdae.core.distributions.components import Components
from scdae.core.distributions.mixtures import Mixture, given_counts
from scdae.core.prediction.decode import law_of_genes, read_out
from scdae.core.runtime.own_switches import own_switches
from scdae.inputs.counts import Counts
from scdae.inputs.silent import blind_cells, own_counts, say_blind
from scdae.model.fitted_model import FittedModel
from scdae.model.restore import query_cells

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["Posterior", "posterior_of"]


@dataclass(frozen=True, repr=False)
class Posterior:
    """Distribution of the expected counts of `n` cells and `g` genes, given their counts; from :meth:`scdae.DAE.posterior`.

    All values are counts at the cell's own depth. Entries are independent of each other given the model, whose own error
    is not in it. Of genes that were not counted where the model was fitted nothing is known: an entry with counts has these
    for its mean, and NaN for all else.

    Parameters
    ----------
    obs_names, var_names
        Names of the cells and genes.
    counts
        float32 (n, g).
    prior
        float32 (n, g): expected counts by the model, before the entry's own count is weighed in; NaN where it knows nothing.
    theta
        float32 (g,): inverse dispersion; infinite for a Poisson model. Where a gene has several, the one that has the same
        variance.
    dropout
        float32 (n, g): probability of dropout before the count is known; 1 for entries that were not observed.
    laws
        The components of each gene's distribution; None where `theta` and `dropout` say all, as in models of scdae 0.1.
    level
        float32 (n, g): how far each entry lies between where its gene is low, 0, and where it is high, 1, which the weights of the
        components follow; None where they are the same everywhere.
    """

    obs_names: pd.Index
    var_names: pd.Index
    counts: np.ndarray
    prior: np.ndarray
    theta: np.ndarray
    dropout: np.ndarray
    laws: Components | None = None
    level: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"Posterior of {len(self.obs_names):,} cells x {len(self.var_names):,} genes"

    @property
    def _law(self) -> tuple[np.ndarray, ...]:
        return self.counts, self.prior, self.theta[None, :], self.dropout

    @property
    def mean(self) -> np.ndarray:
        """Posterior mean, float32 (n, g): what ``output="mean"`` writes."""
        as_counted = np.isnan(self.prior) & (self.dropout < 1)
        if self.laws is not None:
            value = self._mixture(self.laws).expected().astype(np.float32)
        else:
            value = own_switches(lambda: np.asarray(law.posterior_mean(*self._law)))()
        return np.where(as_counted, self.counts, value)

    @property
    def sd(self) -> np.ndarray:
        """Posterior standard deviation, float32 (n, g)."""
        if self.laws is not None:
            return self._mixture(self.laws).sd().astype(np.float32)
        return own_switches(lambda: np.asarray(law.posterior_sd(*self._law)))()

    @own_switches
    def quantile(self, q: npt.ArrayLike) -> np.ndarray:
        """Quantiles of the expected counts.

        Parameters
        ----------
        q
            Probability, or several, from 0 to 1.

        Returns
        -------
        numpy.ndarray
            float32 (n, g), with the shape of `q` in front.

        Raises
        ------
        ValueError
            When a value of `q` lies outside 0 to 1.
        """
        q = np.asarray(q, dtype=np.float64)
        if self.laws is None:
            return law.posterior_quantile(q[..., None, None], *self._law)
        law.check_probabilities(q)
        return self._mixture(self.laws).quantile(q[..., None, None]).astype(np.float32)

    def interval(self, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Central interval that holds the expected count with probability `level`: two float32 (n, g) arrays."""
        if not 0 < level < 1:
            raise ValueError(f"level={level!r}: use a probability between 0 and 1, such as 0.9.")
        lower, upper = self.quantile([(1 - level) / 2, (1 + level) / 2])
        return lower, upper

    @spelled
    def sample(self, n: int = 1, *, seed: int = 0) -> Iterator[np.ndarray]:
        """Draw expected counts.

        Parameters
        ----------
        n
            Number of draws.
        seed
            Seed; the first draws are the same whatever `n`.

        Yields
        ------
        numpy.ndarray
            float32 (n_cells, n_genes), one draw at a time, so that they need not all be held.
        """
        if n < 1:
            raise ValueError(f"n={n!r}: ask for one draw at least.")
        rng = np.random.default_rng(seed)
        mixture = None if self.laws is None else self._mixture(self.laws)
        for _ in range(n):
            if mixture is None:
                yield own_switches(law.posterior_sample)(rng, *self._law)
            else:
                yield mixture.sample(rng).astype(np.float32)

    def _mixture(self, laws: Components) -> Mixture:
        return given_counts(laws.over_cells(self.level), self.counts, self.prior, self.dropout < 1)


def posterior_of(
    model: FittedModel,
    counts: Counts,
    conditions: Conditions | None,
    names: tuple[pd.Index, pd.Index],
    genes: np.ndarray,
) -> Posterior:
    """Posterior of some genes (positions in the query) of all cells in `counts`."""
    fitted = model.network
    data, gene_map = query_cells(model, counts, conditions)
    columns, known = gene_map.columns, gene_map.known
    prior, x, lost = (np.zeros((data.n_obs, len(genes)), np.float32) for _ in range(3))
    if not known[genes].all():
        unknown = genes[~known[genes]]
        raise ValueError(
            f"genes: the model does not know {len(unknown):,} of those asked for, the first being "
            f"{names[1][unknown[0]]!r}. Leave them out, or fit a model to data that have them."
        )
    position_of_gene = np.full(len(counts.var_names), -1)
    position_of_gene[columns[columns >= 0]] = np.flatnonzero(columns >= 0)
    has = position_of_gene[genes] >= 0  # the others had no counts in the fit
    network = position_of_gene[genes][has]
    for rows, part, _ in read_out(fitted, data, "prior"):
        prior[rows, has] = part[:, network]
    x[:, has] = data.counts[:, network].toarray()
    of_network = law_of_genes(fitted)
    of_entries = of_network.at(network).level(prior[:, has], data.exposure)
    matrix = gene_map.take(counts.matrix, counts.unobserved)[0]
    extremes = extreme_entries(matrix, fitted.largest)
    for values in (prior, x):  # counts that no cell can have stay as they are
        values[:, has] = put_back(values[:, has], matrix, extremes, slice(0, data.n_obs), network)
    theta, laws, level = np.full(len(genes), np.inf, np.float32), None, None
    with np.errstate(divide="ignore"):
        theta[has] = 1 / of_network.dispersion[network]
    lost[:, has] = of_network.dropout[network]
    if fitted.laws is not None:
        shape = len(of_network.theta), len(genes)
        laws = Components(np.full(shape, np.inf), np.zeros(shape), np.ones(shape), np.zeros(shape))
        laws.weight[0] = 1  # genes of which nothing is known are certain
        for whole, part in zip(laws[:4], of_network[:4], strict=True):
            whole[:, has] = part[:, network]
        if of_network.high is not None and of_entries is not None:
            high, level = laws.weight.copy(), np.zeros_like(prior)
            high[:, has] = of_network.high[:, network]
            laws = laws._replace(high=high)
            level[:, has] = of_entries
    if data.unobserved is not None:
        hidden = np.zeros(x.shape, bool)
        hidden[:, has] = data.unobserved[:, network].toarray()
        lost[hidden] = 1
    some = gene_map.choose(genes)[1]
    x[:, some.silent], observed = own_counts(some, counts.matrix, counts.unobserved)
    prior[:, some.silent] = np.where((x[:, some.silent] > 0) | some.silent_unknown, np.nan, 0)
    lost[:, some.silent] = ~observed
    blind = blind_cells(data)
    prior[blind] = np.nan
    say_blind(int(blind.sum()), data.n_obs)
    return Posterior(names[0], names[1][genes], x, prior, theta, lost, laws, level)
