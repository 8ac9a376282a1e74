"""What was gained: molecular cross-validation of the settings, against what they have to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scdae import __version__
from scdae._log import say_result
from scdae.arguments.names import check_name
from scdae.arguments.objects import check_adata, check_settings, spelled
from scdae.core.evaluation.baselines import Baseline, LowRank, Raw
from scdae.core.evaluation.report import CLEAR, ENOUGH, beyond_chance
from scdae.core.evaluation.scores import GENE_MEAN, MODEL, RESTORED, Calibration, Score, Scores, score
from scdae.core.runtime.own_switches import own_switches
from scdae.inputs.options import DataOptions
from scdae.matrices.annotation import copied
from scdae.outputs.slots import check_free, writing_to
from scdae.tools.crossval import Job, Split, check_fraction, fit_split, read_job
from scdae.tools.fidelity import fidelity_entry, read_judged_groups, watch_groups

if TYPE_CHECKING:
    from anndata import AnnData

    from scdae.model import DAE

__all__ = ["evaluate"]

RAW, LOW_RANK = "raw counts", "low rank"
VERDICTS = ["helped", "unclear", "gene mean is better", "raw is better", "not judged"]


@spelled
@own_switches
def evaluate(
    adata: AnnData,
    model: DAE | None = None,
    *,
    layer: str | None = None,
    mask: Any = None,
    batch_key: str | None = None,
    covariates: str | Sequence[str] | None = None,
    groupby: str | None = None,
    fraction: float = 0.9,
    key: str = "scdae",
    seed: int = 0,
    allow_fractional: bool = False,
    allow_nan: bool = False,
    overwrite: bool = False,
    copy: bool = False,
    **settings: Any,
) -> AnnData | None:
    """Measure, on the data themselves, what imputation gains: overall, for each gene and for each cell.

    The molecules are split in two. A model with the same settings is fitted to the first part only, and predicts the
    second, which it has never seen; so do the gene means, the counts themselves, and a truncated SVD whose rank is
    chosen by the same principle. A method that copies noise is found out: the noise of the two parts is independent.

    Parameters
    ----------
    adata
        Raw counts, as for :func:`scdae.pp.impute`; most often the object that it was called on.
    model
        A :class:`scdae.DAE` whose settings are to be judged; it is neither used nor changed itself, since it has seen
        all molecules. None: those of the run stored in ``uns[key]``, with its `layer`, `mask` and `batch_key`; the
        defaults where there is none.
    layer, mask, batch_key, covariates, allow_fractional, allow_nan
        As for :func:`scdae.pp.impute`.
    groupby
        Column of `obs` with groups of cells, such as cell types or clusters, whatever its type: whether each comes back
        as it was counted is checked as well. The fit does not see it. Cells without a group are left out of
        this part, and groups of less than 10 cells are not judged.
    fraction
        Fraction of the molecules that is shown.
    key
        Name of the run, and start of the names that are written.
    seed
        Seed of the split.
    overwrite
        Replace columns or an entry of `uns` of these names that this function did not write.
    copy
        Work on a copy and return it.
    **settings
        Settings of the model to judge in place of the stored ones, such as ``likelihood="nb"``.

    Returns
    -------
    anndata.AnnData or None
        The copy if `copy`, else None. Written are

        ``var[key + "_skill"]``
            float32: by how much the molecules set aside are likelier (Poisson) by what the other genes of the cell say
            than by the gene mean, in nats per molecule; NaN where none was set aside. 0 is no better than the gene
            mean.
        ``var[key + "_skill_se"]``
            float32: its standard error over cells.
        ``var[key + "_verdict"]``
            Categorical: ``"helped"`` (skill above 0 by 2.33 standard errors, as chance gives one gene in a hundred),
            ``"gene mean is better"`` and ``"raw is better"`` (they predict better than what is restored, by 2 standard
            errors), ``"unclear"`` (none of these, or less than 10 molecules set aside), ``"not judged"``.
        ``obs[key + "_skill"]``
            float32: the same for each cell.
        ``uns[key + "_evaluation"]``
            The table of methods (read it with :func:`scdae.get.evaluation`), counts of genes, the histogram of the
            probability integral transform, the course of the training, and the verdict in words. With `groupby`, its entry ``"fidelity"`` says what
            became of the groups: read it with :func:`scdae.get.fidelity`, where the numbers are explained.

    Raises
    ------
    ValueError, TypeError
        The data are not counts or an argument does not fit. Nothing was trained or written.

    See Also
    --------
    scdae.get.evaluation : the table.
    scdae.get.fidelity : what became of groups of cells.
    scdae.pl.gain, scdae.pl.calibration, scdae.pl.fidelity : pictures of it.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.simulate(n_cells=80, n_genes=50, seed=0)
    >>> scdae.tl.evaluate(adata, max_epochs=2)
    >>> scdae.get.evaluation(adata).index.tolist()
    ['scdae', 'scdae with own counts', 'gene mean', 'raw counts', 'low rank']
    """
    check_adata(adata)
    check_settings(evaluate, settings, seed)
    check_name(key, "key")
    check_fraction(fraction)
    names = {
        "var": tuple(f"{key}_{name}" for name in ("skill", "skill_se", "verdict")),
        "obs": (f"{key}_skill",),
        "uns": (f"{key}_evaluation",),
    }
    check_free(adata, names, f"{key}_evaluation", "scdae.tl.evaluate", argument="key", overwrite=overwrite, copy=copy)
    groups = read_judged_groups(adata, groupby)
    data = DataOptions(layer, mask, batch_key, covariates, allow_fractional, allow_nan)
    job = read_job(adata, model, settings, data, key=key)
    split = fit_split(job, fraction, seed)
    low_rank = LowRank(split.data, np.random.default_rng([seed, 8]))
    baselines: dict[str, Baseline] = {RAW: Raw(split.data), LOW_RANK: low_rank}
    fitted, rng = split.model.fitted_outcome().fitted, np.random.default_rng([seed, 9])
    tally = None if groups is None else watch_groups(split, groups)
    watch = None if tally is None else tally.add
    scores = score(fitted, split.data, split.held_out, split.ratio, baselines, rng, watch)

    of_gene = _spread(_gene_table(scores, split), split.genes, adata.n_vars)
    of_cell = np.full(adata.n_obs, np.nan, np.float32)
    of_cell[split.cells] = _skill(scores, lambda one: one.cell_deviance, np.asarray(split.held_out.sum(axis=1)).ravel())
    entry = _entry(job, split, scores, of_gene, low_rank.rank, fraction, seed)
    if groups is not None and tally is not None:
        entry["fidelity"] = fidelity_entry(tally, groups, split, np.asarray(job.counts.var_names))
    if copy:
        adata = copied(adata)
    with writing_to(adata):
        for name, column in of_gene.items():
            adata.var[f"{key}_{name}"] = column
        adata.obs[f"{key}_skill"] = of_cell
        adata.uns[f"{key}_evaluation"] = entry
    say_result(entry["verdict"])
    if groups is not None:
        say_result(entry["fidelity"]["verdict"])
    return adata if copy else None


def _skill(scores: Scores, part: Any, molecules: np.ndarray) -> np.ndarray:
    """Nats per molecule that the other genes of a cell add to the gene mean; NaN where no molecule was set aside."""
    ours, base = part(scores.methods[MODEL]), part(scores.methods[GENE_MEAN])
    return np.divide(base - ours, 2 * molecules, out=np.full(len(base), np.nan), where=molecules > 0)


def _gene_table(scores: Scores, split: Split) -> dict[str, np.ndarray]:
    methods, molecules = scores.methods, np.asarray(split.held_out.sum(axis=0)).ravel()
    ours, restored, base, raw = (methods[name] for name in (MODEL, RESTORED, GENE_MEAN, RAW))
    error = np.divide(ours.margin_error, 2 * molecules, out=np.full(len(molecules), np.nan), where=molecules > 0)
    skill = _skill(scores, lambda one: one.deviance, molecules)
    verdict = np.full(len(skill), VERDICTS.index("unclear"))
    verdict[beyond_chance(base.deviance - ours.deviance, ours.margin_error, molecules)] = VERDICTS.index("helped")
    verdict[_better(base, restored, restored.margin_error)] = VERDICTS.index("gene mean is better")
    verdict[_better(raw, restored, raw.margin_error)] = VERDICTS.index("raw is better")
    verdict[molecules < ENOUGH] = VERDICTS.index("unclear")
    verdict[np.isnan(skill)] = VERDICTS.index("not judged")
    return {"skill": skill, "skill_se": error, "verdict": verdict}


def _better(first: Score, second: Score, error: np.ndarray) -> np.ndarray:
    """Genes in which the first leaves less deviance, beyond chance."""
    return second.deviance - first.deviance > CLEAR * error


def _spread(table: dict[str, np.ndarray], genes: np.ndarray, n_vars: int) -> dict[str, Any]:
    """Return the same for all genes of the data."""
    spread: dict[str, Any] = {}
    for name, values in table.items():
        is_code = name == "verdict"
        column = np.full(n_vars, VERDICTS.index("not judged") if is_code else np.nan)
        column[genes] = values
        spread[name] = (
            pd.Categorical.from_codes(column.astype(np.int8), VERDICTS) if is_code else column.astype(np.float32)
        )
    return spread


def _entry(
    job: Job, split: Split, scores: Scores, of_gene: dict[str, Any], rank: int, fraction: float, seed: int
) -> dict[str, Any]:
    """Return what goes into `uns`: plain values."""
    base = scores.methods[GENE_MEAN].deviance.sum()
    counted = pd.Series(of_gene["verdict"]).value_counts()
    number = {name: int(counted.get(name, 0)) for name in VERDICTS}
    methods = {
        name: {
            "skill": float(base - one.deviance.sum()) / (2 * scores.molecules),
            "log_likelihood": float(one.log_likelihood.sum() / scores.molecules),
        }
        for name, one in scores.methods.items()
    }
    return {
        "written_by": "scdae.tl.evaluate",
        "version": __version__,
        "layer": job.layer or "X",
        "fraction": float(fraction),
        "seed": int(seed),
        "settings": {k: np.asarray(v) if isinstance(v, list) else v for k, v in job.config.to_dict().items()},
        "molecules": scores.molecules,
        "methods": np.array(list(methods), dtype=object),
        "skill": np.array([values["skill"] for values in methods.values()]),
        "log_likelihood": np.array([values["log_likelihood"] for values in methods.values()]),
        "rank": int(rank),
        "n_genes": {name.replace(" ", "_"): count for name, count in number.items()},
        **_calibration(scores.calibration),
        "history": {name: np.asarray(values) for name, values in split.model.fitted_outcome().history.items()},
        "verdict": _verdict(methods, number, rank),
    }


def _calibration(calibration: Calibration) -> dict[str, Any]:
    entries = int(calibration.pit.sum())
    return {
        "calibration_entries": entries,
        "coverage": calibration.covered / entries if entries else float("nan"),
        "pit": calibration.pit / max(entries, 1),
    }


def _verdict(methods: dict[str, dict[str, float]], number: dict[str, int], rank: int) -> str:
    """One paragraph for the user."""
    skill, restored, other = (methods[name]["skill"] for name in (MODEL, RESTORED, LOW_RANK))
    judged = sum(number.values()) - number["not judged"]
    known = " with molecules set aside" if number["not judged"] else ""
    if not skill > 0:
        return (
            "Held-out molecules are predicted no better than by the average of each gene: there is nothing to be learned from these "
            "counts, or too little of it. Do not read structure into the imputed values."
        )
    start = "It helps" if number["helped"] else "It gains next to nothing"
    words = [
        f"{start}: molecules set aside are {np.expm1(skill):.1%} more likely by what the other genes of their cell say than by the "
        f"average of each gene, and {np.expm1(restored):.1%} by the restored counts, which know the gene's own count in the cell, too (low-rank "
        f"fit of rank {rank}, which also does: {np.expm1(other):.1%}).",
        f"{number['helped']:,} of {judged:,} genes{known} are helped beyond chance; for {number['unclear']:,} there are too few molecules to tell.",
    ]
    if number["gene mean is better"]:
        words.append(f"{_genes(number['gene mean is better'])} better described by the gene mean.")
    if number["raw is better"]:
        words.append(f"{_genes(number['raw is better'])} better left raw.")
    if other > restored:
        words.append("The low-rank fit predicts better: use it, or tune the settings (scdae.tl.tune).")
    return " ".join(words)


def _genes(number: int) -> str:
    return "1 gene is" if number == 1 else f"{number:,} genes are"
