"""`--output`: what layers hold, one scale or several of one fit."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

__all__ = ["Outputs", "Scale", "one_or_several"]


class Scale(StrEnum):
    """What is written into the layer."""

    mean = "mean"
    prior = "prior"
    rate = "rate"
    sd = "sd"
    log1p = "log1p"


def _scales(value: str) -> list[str]:
    """One word of --output: scales with commas between them."""
    names = [name.strip() for name in value.split(",")]
    wrong = [name for name in names if name not in Scale.__members__]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is not one of {', '.join(map(repr, Scale.__members__))}.")
    return names


def one_or_several(outputs: list[str] | None) -> str | tuple[str, ...]:
    """Return the argument `output` of a call."""
    names = outputs or [Scale.mean.value]
    return names[0] if len(names) == 1 else tuple(names)


def _outputs(words: list[list[str]] | None) -> list[str]:
    """All scales that were asked for, in order."""
    names = [name for word in words or () for name in word] or [Scale.mean.value]
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise typer.BadParameter(f"{twice[0]!r} is named twice.")
    return names


Outputs = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        "--output-scale",
        metavar="SCALE[,SCALE...]",
        parser=_scales,
        callback=_outputs,
        help="What layers hold. mean: expected counts at the cell's own depth; prior: the same without the cell's own "
        "counts, fully smoothed; rate: proportions; sd: standard deviation of the mean; log1p: expected log1p of counts "
        "per 10,000. Several are several layers of one fit, such as 'scdae' and 'scdae_log1p'.",
        show_default="mean",
        rich_help_panel="Output",
    ),
]
