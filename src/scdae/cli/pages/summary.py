"""What a run of the command did, or would do, on one page and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae import __version__
from scdae.get import evaluation
from scdae.outputs.group_tables import describe_groups
from scdae.outputs.names import output_layers, outputs_of

if TYPE_CHECKING:
    from anndata import AnnData

    from scdae.cli.pages.plan import Plan
    from scdae.model import DAE

__all__ = ["describe_evaluation", "describe_model", "describe_plan", "describe_run", "describe_score"]

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
    lines += ["", _times(seconds)]
    lines += ["", _NOTE_ALONE if alone else _NOTE]
    return "\n".join(lines)


def describe_score(adata: AnnData, key: str, *, source: str, target: str, seconds: Mapping[str, float]) -> str:
    """Describe the result of `scdae.tl.anomaly_score` for someone who ran it from the command line.

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

    Returns
    -------
    Text of about 15 lines.
    """
    run = adata.uns[key]
    most = adata.obs.sort_values(key, ascending=False).head(5)
    chance = f"{key}_pvalue"
    known = bool(run["normal_cells_known"])
    verdict = [f"{run['n_below_0.05']:,} are anomalous at a false discovery rate of 5 %."] if known else []
    lines = [
        f"scdae: scored {adata.n_obs:,} cells",
        "",
        f"  read     {source}",
        f"  wrote    {target}",
        "",
        f"Compared with {run['n_normal']:,} cells: {run['compared_with']}.",
        *verdict,
        "",
        "The most unlike the others:",
        *_table([(str(c), f"score {row[key]:.1f}, P = {row[chance]:.2g}") for c, row in most.iterrows()], indent=2),
        "",
        _times(seconds),
    ]
    if not known:
        lines += [
            "",
            "This is a ranking: no cells were named as normal (--normal), so P is the fraction of cells that look at least as odd,",
            "and of no cell it is said that it is anomalous.",
        ]
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
    entry = adata.uns[f"{key}_evaluation"]
    rows = [("", f"{'skill':>9}  {'log likelihood':>14}")]
    for name, values in evaluation(adata, key).iterrows():
        rows.append((str(name), f"{values['skill']:>9.4f}  {values['log_likelihood']:>14.4f}"))
    lines = [
        f"scdae {entry['version']}: evaluated {adata.n_obs:,} cells x {adata.n_vars:,} genes of {source}",
        "",
        f"A model was shown the other molecules and predicted {1 - float(entry['fraction']):.0%} of the molecules; nats per molecule,",
        "of which the skill is what a method adds to the average of each gene (0.1 is about 10% more likely):",
        *_table(rows, indent=2),
    ]
    if entry["calibration_entries"]:
        lines.append(
            f"90% intervals held {entry['coverage']:.1%} of {entry['calibration_entries']:,} counts set aside."
        )
    lines += ["", str(entry["verdict"])]
    if "fidelity" in entry:
        lines += ["", *describe_groups(adata, key)]
    return "\n".join([*lines, "", _times(seconds)])


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
                "skill_restored": report.skill_restored,
                "n_genes_helped": report.helped.sum(),
                "n_genes": len(outcome.genes),
            }
        ),
        "",
        f"Restore data with it: scdae apply COUNTS {target} RESTORED",
    ]
    return "\n".join([*lines, "", _times(seconds)])


def describe_plan(plan: Plan, command: str, *, source: str, target: str) -> str:
    """Return the plan on one page.

    Parameters
    ----------
    plan
        The plan.
    command
        Name of the command.
    source, target
        What would be read and written.
    """
    read, train, cost = plan.read, plan.train, plan.cost
    share = read["stored_entries"] / max(read["n_obs"] * read["n_vars"], 1)
    how = "held in memory" if read["held_in_memory"] else "left on disk and read by blocks"
    rows = [
        ("read", f"{source}, {read['counts']}: {read['n_obs']:,} cells x {read['n_vars']:,} genes"),
        ("", f"{read['stored_entries']:,} stored entries ({share:.1%}), {how}"),
    ]
    if read["unobserved_entries"]:
        rows.append(("", f"{read['unobserved_entries']:,} entries were not observed"))
    rows.append(("train", f"{train['n_obs']:,} cells x {train['n_vars']:,} genes with counts, {train['likelihood']}"))
    steps = f"at most {train['most_steps']:,} steps of {train['batch_size']} cells ({train['most_epochs']:,} epochs)"
    if train.get("networks", 1) > 1:
        steps += f", of {train['networks']} networks, averaged"
    rows.append(("", f"{steps}, on {train['device']}"))
    if train["batches"] or train["covariates"]:
        rows.append(("", f"{len(train['batches'])} batches, {len(train['covariates'])} covariates"))
    rows += [("write", target), *(("", line) for line in _written(plan.write))]
    seconds, free = cost["estimated_seconds"], cost["free_gib"]
    time = "not estimated for this device" if seconds is None else f"about {_rounded(seconds)} on two cores"
    time += " beside quantiles" if plan.write.get("n_quantiles") and seconds is not None else ""
    memory = f"about {cost['estimated_peak_gib']:.1f} GiB" + (
        "" if free is None else f"; {free:.1f} GiB are free ({cost['free_by']})"
    )
    rows += [("time", f"{time} (an estimate)"), ("memory", f"{memory} (an estimate)")]
    head = f"scdae {__version__}: dry run of {command}, nothing is trained or written"
    lines = [
        head,
        "",
        *(f"  {name:<8} {text}" for name, text in rows),
        "",
        "All values are counts, and all names are free.",
    ]
    if free is not None and cost["estimated_peak_gib"] > free:
        lines.append("That is more memory than is free: --results-only, --threshold and --genes take less.")
    return "\n".join(lines)


def _contents(adata: AnnData, key: str, run: Mapping[str, Any]) -> list[tuple[str, str]]:
    latent = adata.obsm[f"X_{key}"]
    outputs = outputs_of(run)
    units = run.get("units", {key: run["unit"]})
    layers = zip(output_layers(key, outputs), outputs, strict=True)
    rows = [
        *((f"layers['{name}']", f"{_SCALES.get(scale, scale)} ({units[name]})") for name, scale in layers),
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
    "zero_inflated": "whether the gene rather has technical zeros than not",
    "zero_inflated_probability": "how probable that is",
    "gate": "how much of what the network says of the gene was kept, 0 to 1",
    "gain": "how much the gene gained, on held-out molecules, in nats per molecule",
    "helped": "whether that is beyond chance",
}


def _held_out(report: Mapping[str, Any]) -> list[str]:
    skill, helped, genes = float(report["skill"]), int(report["n_genes_helped"]), int(report["n_genes"])
    if not skill > 0:
        return [
            "Check on held-out molecules: the network predicted them no better than the average of each gene does.",
            "There is nothing to be learned from these counts, or too little of it: do not read structure into the output.",
        ]
    return [
        f"Check on held-out molecules: by what the other genes of a cell say, each was {np.expm1(skill):.1%} more likely than by the",
        f"average of its gene, and {np.expm1(float(report['skill_restored'])):.1%} with the entry's own count weighed in. Most of the rest is",
        "sampling noise, which nothing can predict.",
        f"It helped {helped:,} of {genes:,} genes beyond chance.",
    ]


def _zero_inflation(number: int, genes: int) -> str:
    if number == 0:
        return "No gene has more zeros than a negative binomial gives: zero inflation was switched off for all."
    return f"{number:,} of {genes:,} genes have more zeros than a negative binomial gives (zero-inflated)."


def _times(seconds: Mapping[str, float]) -> str:
    """Say how long each step took."""
    return "Time: " + ", ".join(f"{step} {spent:.1f} s" for step, spent in seconds.items()) + "."


def _table(rows: list[tuple[str, str]], *, indent: int) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"{' ' * indent}{name:<{width}}  {meaning}" for name, meaning in rows]


def _written(write: Mapping[str, Any]) -> list[str]:
    """Return the layers and latent space, with their sizes."""
    if not write:
        return ["one file: arrays, and settings as JSON"]
    names = ", ".join(f"layers['{name}']" for name in write["layers"])
    size = "as large as there are values kept" if write["bytes"] is None else _size(write["bytes"])
    how = ", restored as they are written" if write["cell_by_cell"] else ""
    beside = "beside all that INPUT holds" if write["with_the_data"] else "with obs and var, without the data"
    return [
        f"{names}: {write['form']} {write['dtype']}, {write['n_vars']:,} genes, {size}{how}",
        f"latent space: {_size(write['latent_bytes'])}; {beside}",
    ]


def _size(n_bytes: float) -> str:
    """Say a number of bytes in words."""
    return f"{n_bytes / 2**30:,.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:,.1f} MiB"


def _rounded(seconds: float) -> str:
    """Two digits are more than an estimate has."""
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )
