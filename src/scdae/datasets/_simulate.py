"""Data to begin with: simulated counts whose truth is known, a simulated gene family, and real counts that are fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scdae.arguments.numbers import check_seed, real_number, whole_number
from scdae.arguments.objects import spelled
from scdae.datasets._download import paul15, pbmc3k, pbmc5k_citeseq
from scdae.datasets._simulate_16s import simulate_16s

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["paul15", "pbmc3k", "pbmc5k_citeseq", "simulate", "simulate_16s"]

_SIZES = ("n_cells", "n_genes", "n_types", "n_batches")
_BLOCK = 1024  # cells drawn at a time, which bounds the memory of the float64 draws
_MARKER_SHARE = 0.04  # of the genes, for each cell type and for the trajectory
_BACKGROUND_SHARE = 0.15  # of the genes, for each cell type: mildly changed, up or down


@spelled
def simulate(
    n_cells: int = 2000,
    n_genes: int = 2000,
    *,
    n_types: int = 5,
    n_batches: int = 2,
    trajectory: bool = True,
    depth: float = 1500.0,
    depth_spread: float = 0.4,
    dispersion: float = 0.1,
    dropout: float = 0.1,
    batch_effect: float = 0.15,
    ambient: float = 0.0,
    seed: int = 0,
) -> AnnData:
    r"""Draw counts from a known model, and keep the truth next to them.

    For cell :math:`i`, gene :math:`j`, with :math:`s_i` the library size and :math:`\rho_{ij}` the proportions that
    cell type, place on the trajectory and batch give together,

    .. math::

        g_{ij} \sim \mathrm{Gamma}(\theta_j, \theta_j), \quad
        d_{ij} \sim \mathrm{Bernoulli}(\pi_j), \quad
        x_{ij} \sim (1 - d_{ij}) \, \mathrm{Poisson}(s_i \rho_{ij} g_{ij}) .

    Gamma gene means, log-normal fold changes and log-normal library sizes follow the choices of Splatter
    :cite:p:`Zappia2017`.

    Parameters
    ----------
    n_cells, n_genes
        Shape of the result.
    n_types
        Number of cell types. Each has marker genes (4 % of the genes, log fold change around 1.5) and mild changes in
        another 15 % of the genes.
    n_batches
        Number of batches; cells are shared out at random.
    trajectory
        Turn the first two types into the ends of one continuous path, along which log expression moves from one
        profile to the other, and on which a further 4 % of the genes rise and fall.
    depth
        Median library size, in molecules.
    depth_spread
        Standard deviation of the log library size.
    dispersion
        Median over genes of :math:`1 / \theta_j`; genes spread log-normally around it. 0 gives Poisson counts.
    dropout
        Mean over genes of :math:`\pi_j`, the probability that an entry is lost whatever its expression; genes follow
        a Beta distribution with this mean. 0 switches zero inflation off.
    batch_effect
        Standard deviation of the gene-wise log factor of each batch.
    ambient
        Share of each cell's molecules that come from the average profile of its batch.
    seed
        Seed of a generator of its own: the global random state is neither read nor moved.

    Returns
    -------
    AnnData
        ``X`` : CSR float32, the counts.

        ``layers["truth"]`` : float32 array of shape ``(n_cells, n_genes)``, the expected counts
        :math:`s_i \rho_{ij}` at the cell's own depth, before overdispersion, sampling and dropout.

        ``layers["truth_ambient"]`` : float32 array, the part of it that is ambient; only with ``ambient`` above 0.

        ``obs`` : ``cell_type``, ``batch`` (categories), ``pseudotime`` (0 to 1, NaN off the trajectory) and
        ``library_size`` (expected molecules :math:`s_i`, before dropout).

        ``var`` : ``dispersion`` (:math:`1/\theta_j`), ``dropout`` (:math:`\pi_j`), ``marker`` (bool) and ``marker_of``
        (category: the type, ``"trajectory"`` or ``"none"``).

        ``uns["simulation"]`` : the arguments, as plain values.

    Raises
    ------
    ValueError
        When an argument is out of its range.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(200, 100, seed=1)
    >>> adata.shape
    (200, 100)
    >>> adata.layers["truth"].shape
    (200, 100)
    """
    settings = {
        "n_cells": n_cells,
        "n_genes": n_genes,
        "n_types": n_types,
        "n_batches": n_batches,
        "trajectory": trajectory,
        "depth": depth,
        "depth_spread": depth_spread,
        "dispersion": dispersion,
        "dropout": dropout,
        "batch_effect": batch_effect,
        "ambient": ambient,
        "seed": seed,
    }
    _check(settings)
    n_cells, n_genes, n_types, n_batches = (int(settings[name]) for name in _SIZES)
    rng = np.random.default_rng(check_seed(seed))

    # Which kind each cell is of, where on the path, in which batch, and how deeply it is measured.
    profiles, bump, marker_of = _programs(rng, n_genes, n_types, trajectory)
    type_share = rng.dirichlet(np.full(n_types, 8.0))
    cell_type = rng.choice(n_types, n_cells, p=type_share)
    pseudotime = np.full(n_cells, np.nan)
    if trajectory:
        on_path = cell_type < 2
        pseudotime[on_path] = rng.uniform(size=on_path.sum())
        cell_type[on_path] = pseudotime[on_path] >= 0.5
    batch = rng.integers(n_batches, size=n_cells)
    batch_factor = batch_effect * rng.standard_normal((n_batches, n_genes))
    library_size = depth * np.exp(depth_spread * rng.standard_normal(n_cells))

    # Expected counts: the profile of the cell under the effects of its batch, at its depth.
    truth = np.empty((n_cells, n_genes), dtype=np.float32)
    for start in range(0, n_cells, _BLOCK):
        rows = slice(start, start + _BLOCK)
        log_profile = profiles[cell_type[rows]]
        if trajectory:
            log_profile = _along_path(log_profile, pseudotime[rows], profiles, bump)
        profile = np.exp(log_profile + batch_factor[batch[rows]])
        truth[rows] = library_size[rows, None] * profile / profile.sum(axis=1, keepdims=True)

    layers = {"truth": truth}
    if ambient > 0:
        layers["truth_ambient"] = _add_ambient(truth, batch, library_size, ambient)

    # What is counted of these.
    theta_inverse = dispersion * np.exp(0.5 * rng.standard_normal(n_genes))
    pi = rng.beta(5 * dropout, 5 * (1 - dropout), size=n_genes) if dropout > 0 else np.zeros(n_genes)
    counts = _draw(rng, truth, theta_inverse, pi)

    type_names = [f"type_{k + 1}" for k in range(n_types)]
    batch_names = [f"batch_{b + 1}" for b in range(n_batches)]
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical.from_codes(cell_type, type_names),
            "batch": pd.Categorical.from_codes(batch, batch_names),
            "pseudotime": pseudotime,
            "library_size": library_size,
        },
        index=[f"cell_{i + 1}" for i in range(n_cells)],
    )
    var = pd.DataFrame(
        {
            "dispersion": theta_inverse,
            "dropout": pi,
            "marker": marker_of >= 0,
            "marker_of": pd.Categorical.from_codes(
                np.where(marker_of < 0, n_types + 1, marker_of), [*type_names, "trajectory", "none"]
            ),
        },
        index=[f"gene_{j + 1}" for j in range(n_genes)],
    )
    return AnnData(counts, obs=obs, var=var, layers=layers, uns={"simulation": settings})


def _check(settings: dict[str, Any]) -> None:
    """Refuse settings that are out of range or no numbers, by name and value; whole floats become whole numbers."""
    for name in ("depth", "depth_spread", "dispersion", "dropout", "batch_effect", "ambient"):
        if not isinstance(settings[name], float) or np.isinf(settings[name]):
            real_number(name, settings[name], "a number")
    for name in _SIZES:
        value = settings[name]
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
        settings[name] = whole_number(name, value, 1)
    for name in ("depth_spread", "dispersion", "batch_effect"):
        if not settings[name] >= 0:
            raise ValueError(f"{name} must not be negative, got {settings[name]}.")
    for name in ("dropout", "ambient"):
        if not 0 <= settings[name] < 1:
            raise ValueError(f"{name} is a share, 0 or more and below 1, got {settings[name]}.")
    if not settings["depth"] > 0:
        raise ValueError(f"depth must be positive (median molecules of a cell), got {settings['depth']}.")
    if settings["trajectory"] and settings["n_types"] < 2:
        raise ValueError(
            f"trajectory=True needs two types as its ends, got n_types={settings['n_types']}. Pass trajectory=False."
        )


def _programs(
    rng: np.random.Generator, n_genes: int, n_types: int, trajectory: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw log profiles of the types, the trajectory's own log fold changes, and which program a gene marks.

    The markers of different programs do not overlap. The third array holds a type's number, `n_types` for the
    trajectory, or -1.
    """
    profiles = np.tile(np.log(rng.gamma(0.4, size=n_genes) + 0.02), (n_types, 1))
    bump = np.zeros(n_genes)
    marker_of = np.full(n_genes, -1)
    n_programs = n_types + trajectory
    per_program = min(max(1, round(_MARKER_SHARE * n_genes)), n_genes // n_programs)
    chosen = rng.permutation(n_genes)[: per_program * n_programs].reshape(n_programs, per_program)
    for k in range(n_types):
        changed = rng.uniform(size=n_genes) < _BACKGROUND_SHARE
        profiles[k, changed] += 0.5 * rng.standard_normal(changed.sum())
        profiles[k, chosen[k]] += 1.5 + 0.5 * rng.standard_normal(per_program)
        marker_of[chosen[k]] = k
    if trajectory:
        bump[chosen[-1]] = 1.5 + 0.5 * rng.standard_normal(per_program)
        marker_of[chosen[-1]] = n_types
    return profiles, bump, marker_of


def _along_path(log_profile: np.ndarray, pseudotime: np.ndarray, profiles: np.ndarray, bump: np.ndarray) -> np.ndarray:
    """Replace the profiles of cells on the path: linear in log expression between its ends, a hump in the middle."""
    on_path = np.isfinite(pseudotime)
    t = pseudotime[on_path, None]
    log_profile = log_profile.copy()
    log_profile[on_path] = (1 - t) * profiles[0] + t * profiles[1] + np.sin(np.pi * t) ** 2 * bump
    return log_profile


def _add_ambient(truth: np.ndarray, batch: np.ndarray, library_size: np.ndarray, share: float) -> np.ndarray:
    """Replace, in place, a share of each cell's expected counts by its batch's average; return the ambient part."""
    part = np.empty_like(truth)
    for b in np.unique(batch):
        rows = batch == b
        soup = truth[rows].sum(axis=0, dtype=np.float64)
        part[rows] = share * library_size[rows, None] * (soup / soup.sum())
    truth *= 1 - share
    truth += part
    return part


def _draw(rng: np.random.Generator, mean: np.ndarray, theta_inverse: np.ndarray, pi: np.ndarray) -> sparse.csr_matrix:
    """Draw the counts: gamma overdispersion, Poisson sampling, dropout."""
    blocks = []
    for start in range(0, len(mean), _BLOCK):
        rate = mean[start : start + _BLOCK].astype(np.float64)
        if theta_inverse.any():
            rate *= theta_inverse * rng.standard_gamma(1 / theta_inverse, size=rate.shape)
        counts = rng.poisson(rate)
        if pi.any():
            counts[rng.uniform(size=counts.shape) < pi] = 0
        blocks.append(sparse.csr_matrix(counts.astype(np.float32)))
    return sparse.vstack(blocks, format="csr")
