"""What held-out molecules said of a fitted model: deviances, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = ["CLEAR", "ENOUGH", "Report", "beyond_chance", "ratio_of_sums"]

CLEAR = 2.0  # standard errors over cells that are more than chance
_SURE = 2.33  # the same for each of many genes, of which one in a hundred has so much by chance
_LEAST = 1e-4  # nats per molecule that are more than nothing
ENOUGH = 10  # molecules set aside, below which a standard error says little


@dataclass(frozen=True)
class Report:
    """Poisson deviance of the held-out molecules under the gene means and under what the model expects of them.

    The model is judged by the decoder's mean, which is what the cell's other genes say of an entry. What the entry's
    own count adds to that is no merit of the network, and the deeper a cell was sequenced the more it is, so it is
    noted apart.
    """

    gene_deviance: np.ndarray  # float64 (n_vars,): under the decoder's mean
    gene_restored: np.ndarray  # (n_vars,): with each entry's own count weighed in
    gene_baseline: np.ndarray  # (n_vars,): under the gene means
    gene_error: np.ndarray  # (n_vars,): standard error, over cells, of baseline minus deviance
    gene_molecules: np.ndarray  # (n_vars,): held-out molecules
    cell_deviance: np.ndarray  # (n_obs,)
    cell_baseline: np.ndarray  # (n_obs,)
    cell_molecules: np.ndarray  # (n_obs,)
    expected: np.ndarray  # (n_vars,): training molecules that the decoder expects
    molecules: float
    efficiency: float = 1.0  # gain with own counts over the gain that the model expects of itself
    efficiency_error: float = 0.0  # its standard error, over cells

    @property
    def skill(self) -> float:
        """Log likelihood gained over the gene means by what other genes of the cell say, in nats per held-out molecule."""
        return self._nats(self.gene_deviance)

    @property
    def skill_restored(self) -> float:
        """The same with each entry's own count weighed in, as in what is restored."""
        return self._nats(self.gene_restored)

    @property
    def skill_error(self) -> float:
        """Standard error of the skill over cells (of the ratio, linearized)."""
        if not self.molecules > 0:
            return np.inf
        rest = self.cell_baseline - self.cell_deviance - 2 * self.skill * self.cell_molecules
        return float(np.sqrt((rest**2).sum()) / (2 * self.molecules))

    @property
    def gene_gain(self) -> np.ndarray:
        """Skill of each gene, float32 (n_vars,), in nats per molecule; NaN for genes without held-out molecules."""
        return _gain(self.gene_deviance, self.gene_baseline, self.gene_molecules)

    @property
    def cell_gain(self) -> np.ndarray:
        """Skill of each cell, float32 (n_obs,)."""
        return _gain(self.cell_deviance, self.cell_baseline, self.cell_molecules)

    @property
    def helped(self) -> np.ndarray:
        """Genes that gain more than chance: bool (n_vars,)."""
        return beyond_chance(self.gene_baseline - self.gene_deviance, self.gene_error, self.gene_molecules)

    def in_order(self, cells: np.ndarray, genes: np.ndarray) -> Report:
        """Return the same with cells and genes in another order, all of them, int (n_obs,) and (n_vars,)."""
        moved: dict[str, Any] = {
            name: value[cells if name.startswith("cell_") else genes]
            for name, value in vars(self).items()
            if isinstance(value, np.ndarray)
        }
        return replace(self, **moved)

    def _nats(self, deviance: np.ndarray) -> float:
        if not self.molecules > 0:
            return 0.0
        return float((self.gene_baseline.sum() - deviance.sum()) / (2 * self.molecules))


def beyond_chance(margin: np.ndarray, error: np.ndarray, molecules: np.ndarray) -> np.ndarray:
    """Margins in deviance of at least 2.33 standard errors over cells, in genes with enough molecules to tell.

    Of genes of nothing but noise that is one in a hundred, and up to three where there are few molecules, whose errors
    are not normal. A margin next to nothing is none: where the network was gated off, the decoder's means are those of
    the genes but for rounding.
    """
    return (margin > _SURE * error) & (margin > 2 * _LEAST * molecules) & (molecules >= ENOUGH)


def ratio_of_sums(gained: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Ratio of two sums over cells, and its standard error (linearized); 1 and infinity where nothing is expected."""
    total = float(expected.sum())
    if not total > 0:
        return 1.0, np.inf
    ratio = float(gained.sum()) / total
    return ratio, float(np.sqrt(((gained - ratio * expected) ** 2).sum())) / total


def _gain(deviance: np.ndarray, baseline: np.ndarray, molecules: np.ndarray) -> np.ndarray:
    gain = np.divide(baseline - deviance, 2 * molecules, out=np.full(len(baseline), np.nan), where=molecules > 0)
    return gain.astype(np.float32)
