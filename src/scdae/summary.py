"""What a run of the command did, on one page and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anndata import AnnData

    from scdae.model import DAE

__all__ = ["describe_evaluation", "describe_model", "describe_run"]

_NOTE = (
    "The restored counts are for looking at, for gene-gene views and for embeddings. Tests of differential expression\n"
    "belong on the raw counts, which are in the output unchanged."
)
_NOTE_ALONE = _NOTE.replace("in the output unchanged", "not in the output: it holds the results alone")


def describe_run(
    adata: AnnData, key: str, *, source: str, target: str, seconds: Mapping[str, float], alone: bool = False
) -> str:
    """Describe the result of `scdae.pp.impute` for someone who ran it from the command line.

    Parameters
    ----------
    adata
        The result.
    key
        The `key_added` of the run.
    source, target
        What was read and written.
    seconds
        Time that each step took, by its name.
    alone
        Whether the results were written without the data.

    Returns
    -------
    Text of about 20 lines.
    """
    run = adata.uns[key]
    report = run["report"]
    lines = [
        f"scdae {run['version']}: restored {adata.n_obs:,} cells x {adata.n_vars:,} genes",
        "",
        f"  read     {source}",
        f"  wrote    {target}",
        *_table(_contents(adata, key, run), indent=11),
        "",
        *_held_out(report),
    ]
    if run["likelihood"] == "zinb":
        lines += [_zero_inflation(int(report["zero_inflated_genes"]), adata.n_vars)]
    lines += ["", "Time: " + ", ".join(f"{step} {spent:.1f} s" for step, spent in seconds.items()) + "."]
    lines += ["", _NOTE_ALONE if alone else _NOTE]
    return "\n".join(lines)


def describe_evaluation(adata: AnnData, key: str, *, source: str, seconds: Mapping[str, float]) -> str:
    """Describe the result of `scdae.tl.evaluate` for someone who ran it from the command line.

    Parameters
    ----------
    adata
        The result.
    key
        The `key` of the run.
    source
        What was read.
    seconds
        Time that each step took, by its name.

    Returns
    -------
    Text of about 15 lines.
    """
    from scdae.get import evaluation

    entry = adata.uns[f"{key}_evaluation"]
    rows = [("", f"{'deviance explained':>18}  {'log likelihood of a molecule':>28}")]
    for name, values in evaluation(adata, key).iterrows():
        rows.append((str(name), f"{values['skill']:>18.1%}  {values['log_likelihood']:>28.4f}"))
    lines = [
        f"scdae {entry['version']}: evaluated {adata.n_obs:,} cells x {adata.n_vars:,} genes of {source}",
        "",
        f"A model was shown the other molecules and predicted {1 - float(entry['fraction']):.0%} of the molecules:",
        *_table(rows, indent=2),
    ]
    if entry["calibration_entries"]:
        lines.append(
            f"90% intervals held {entry['coverage']:.1%} of {entry['calibration_entries']:,} counts set aside."
        )
    lines += ["", str(entry["verdict"])]
    return "\n".join(
        [*lines, "", "Time: " + ", ".join(f"{step} {spent:.1f} s" for step, spent in seconds.items()) + "."]
    )


def describe_model(model: DAE, *, source: str, target: str, seconds: Mapping[str, float]) -> str:
    """Describe a fitted model for someone who trained it from the command line.

    Parameters
    ----------
    model
        The model.
    source, target
        What was read and written.
    seconds
        Time that each step took, by its name.

    Returns
    -------
    Text of about 10 lines.
    """
    from scdae import __version__

    outcome = model.fitted_outcome()
    report = outcome.report
    lines = [
        f"scdae {__version__}: fitted a model to {len(outcome.cells):,} cells x {len(outcome.genes):,} genes with counts",
        "",
        f"  read     {source}",
        f"  wrote    {target}",
        "",
        *_held_out(
            {
                "skill": report.skill,
                "n_genes_helped": (report.gene_gain > 0).sum(),
                "n_genes": len(outcome.genes),
            }
        ),
        "",
        f"Restore data with it: scdae apply COUNTS {target} RESTORED",
    ]
    return "\n".join(
        [*lines, "", "Time: " + ", ".join(f"{step} {spent:.1f} s" for step, spent in seconds.items()) + "."]
    )


def _contents(adata: AnnData, key: str, run: Mapping[str, Any]) -> list[tuple[str, str]]:
    latent = adata.obsm[f"X_{key}"]
    rows = [
        (f"layers['{key}']", f"{_SCALES.get(str(run['output']), str(run['output']))} ({run['unit']})"),
        (f"obsm['X_{key}']", f"latent representation, {latent.shape[1]} dimensions"),
    ]
    for end, meaning in _COLUMNS.items():
        rows += [(f"var['{key}_{end}']", meaning)] if f"{key}_{end}" in adata.var else []
    if f"{key}_gain" in adata.obs:
        rows.append((f"obs['{key}_gain']", "how much the cell gained, on held-out molecules"))
    rows.append((f"uns['{key}']", "settings, training history, held-out report"))
    return rows


_SCALES = {
    "mean": "posterior mean",
    "prior": "mean of the decoder, the full smoothing",
    "rate": "proportions",
    "sd": "posterior standard deviation",
    "log1p": "expected log counts",
}
_COLUMNS = {
    "dispersion": "overdispersion of the gene (1/theta)",
    "dropout": "probability that the gene's count is lost (technical zero)",
    "zero_inflated": "whether the gene has technical zeros at all",
    "gate": "how much of what the network says of the gene was kept, 0 to 1",
    "gain": "how much the gene gained, on held-out molecules",
}


def _held_out(report: Mapping[str, Any]) -> list[str]:
    skill, helped, genes = float(report["skill"]), int(report["n_genes_helped"]), int(report["n_genes"])
    if skill <= 0:
        return [
            "Check on held-out molecules: the network predicted them no better than the average of each gene does.",
            "There is nothing to be learnt from these counts, or too little of it: do not read structure into the output.",
        ]
    return [
        f"Check on held-out molecules: {skill:.1%} of the deviance that the average of each gene leaves was explained",
        "(0% is as good as the average; most of the rest is sampling noise, which nothing can predict).",
        f"It helped {helped:,} of {genes:,} genes.",
    ]


def _zero_inflation(number: int, genes: int) -> str:
    if number == 0:
        return "No gene has more zeros than a negative binomial gives: zero inflation was switched off for all."
    return f"{number:,} of {genes:,} genes have more zeros than a negative binomial gives (zero-inflated)."


def _table(rows: list[tuple[str, str]], *, indent: int) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"{' ' * indent}{name:<{width}}  {meaning}" for name, meaning in rows]
