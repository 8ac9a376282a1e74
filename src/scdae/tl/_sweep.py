"""Skill against the noise level: too little corruption teaches copying, too much leaves nothing to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae._log import progress, say_result
from scdae.arguments.names import check_name
from scdae.arguments.objects import check_adata, check_settings, spelled
from scdae.core.evaluation.scores import GENE_MEAN, MODEL, score
from scdae.core.runtime.own_switches import own_switches
from scdae.inputs.options import DataOptions
from scdae.outputs.slots import check_free, writing_to
from scdae.tools.crossval import Split, check_fraction, fit_split, read_job

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["noise_sweep"]

_WRITER = "scdae.tl.noise_sweep"


@spelled
@own_switches
def noise_sweep(
    adata: AnnData,
    levels: Sequence[float] = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98),
    *,
    layer: str | None = None,
    mask: Any = None,
    batch_key: str | None = None,
    covariates: str | Sequence[str] | None = None,
    fraction: float = 0.9,
    key_added: str = "scdae_sweep",
    seed: int = 0,
    allow_fractional: bool = False,
    allow_nan: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> None:
    """Fit models at several noise levels, and at the default range of levels, and score them on held-out molecules.

    Parameters
    ----------
    adata
        Raw counts, as for :func:`scdae.pp.impute`.
    levels
        Noise levels: fractions of the molecules (or entries) set aside in training, or standard deviations with
        ``corruption="gaussian"``.
    layer, mask, batch_key, covariates, allow_fractional, allow_nan
        As for :func:`scdae.pp.impute`.
    fraction
        Share of the molecules that the models are shown.
    key_added
        Entry of `uns`.
    seed
        Seed of split and fits.
    overwrite
        Replace an entry of that name that this function did not write.
    **settings
        Settings of the model, such as ``corruption="masking"``.

    Returns
    -------
    None
        ``uns[key_added]`` gets ``level``, ``skill`` (as in :func:`evaluate`, in nats per molecule), ``skill_se``
        (its standard error over cells), and ``range``, ``range_skill``: the same for the setting
        without a single level. :func:`scdae.pl.noise_sweep` draws it.

    Raises
    ------
    ValueError, TypeError
        The data are not counts or an argument does not fit. Nothing was trained or written.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
    >>> scdae.tl.noise_sweep(adata, [0.1, 0.5], max_epochs=2)
    >>> adata.uns["scdae_sweep"]["skill"].shape
    (2,)
    """
    check_adata(adata)
    check_settings(noise_sweep, settings, seed)
    check_name(key_added, "key_added")
    check_fraction(fraction)
    check_free(adata, {"uns": (key_added,)}, key_added, _WRITER, overwrite=overwrite)
    data = DataOptions(layer, mask, batch_key, covariates, allow_fractional, allow_nan)
    job = read_job(adata, None, {"seed": seed, **settings}, data)
    given = [float(level) for level in np.atleast_1d(np.asarray(levels, dtype=np.float64))]
    configs = [replace(job.config, noise=(level, level)) for level in given]  # an impossible level is an error here
    scores = []
    for config in progress([*configs, job.config], total=len(given) + 1, description="scdae: noise levels"):
        scores.append(_skill(fit_split(replace(job, config=config), fraction, seed)))
    skill, error = map(np.array, zip(*scores, strict=True))
    with writing_to(adata):
        adata.uns[key_added] = {
            "written_by": _WRITER,
            "level": np.array(given),
            "skill": skill[:-1],
            "skill_se": error[:-1],
            "range": np.array(job.config.noise),
            "range_skill": float(skill[-1]),
            "corruption": job.config.corruption,
        }
    best = int(np.argmax(skill[:-1]))
    low, high = job.config.noise
    say_result(
        f"best single noise level {given[best]:g} (skill {skill[best]:.4f}); levels from {low:g} to {high:g}: "
        f"{skill[-1]:.4f}."
    )


def _skill(split: Split) -> tuple[float, float]:
    """Nats per molecule that the model adds to the gene means, and their standard error over cells."""
    fitted, rng = split.model.fitted_outcome().fitted, np.random.default_rng(0)
    methods = score(fitted, split.data, split.held_out, split.ratio, {}, rng).methods
    margin = methods[GENE_MEAN].cell_deviance - methods[MODEL].cell_deviance
    molecules = np.asarray(split.held_out.sum(axis=1), np.float64).ravel()
    total = max(2 * float(molecules.sum()), 1e-12)
    skill = float(margin.sum()) / total
    residual = margin - 2 * skill * molecules  # of the ratio's linearization
    return skill, float(np.sqrt((residual**2).sum())) / total
