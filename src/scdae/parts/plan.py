"""What all parts of one store have in common, as it is kept beside them: a part of anything else is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from scdae import __version__
from scdae.parts.geometry import Geometry

__all__ = ["Plan", "check_same", "numbered", "read_plan", "words_of"]

_FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """The plan of a store, in plain values.

    Parameters
    ----------
    n_parts
        Number of parts.
    source, model
        Files that are read, as absolute paths.
    n_obs, n_vars
        Shape of the counts that are read.
    cells, covariates, var_names, fit
        SHA-256 of the names of the cells, of what the model knows of their batches and covariates, of the names of the
        genes; and the name of the fit.
    asked
        Options that decide what is written, as they are called on the command line, without those that were left out.
    genes
        Names of the genes that are written; None for all.
    key
        Name of the first layer.
    layers
        Names of all layers.
    n_genes, n_latent
        Genes that are written, and width of the latent space.
    height
        Rows of a chunk.
    sparse
        Whether layers are sparse.
    dtype
        Of the layers.
    version
        Of scdae.
    """

    n_parts: int
    source: str
    model: str
    n_obs: int
    n_vars: int
    cells: str
    covariates: str
    var_names: str
    fit: str
    asked: dict[str, Any]
    genes: list[str] | None
    key: str
    layers: list[str]
    n_genes: int
    n_latent: int
    height: int
    sparse: bool
    dtype: str
    version: str = __version__

    @property
    def geometry(self) -> Geometry:
        """Which rows are whose."""
        return Geometry(self.n_obs, self.height, self.n_parts)

    def to_json(self) -> str:
        """Convert to JSON."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=2) + "\n"

    def command(self, target: str, part: int | str) -> list[str]:
        """Return the words of the command that restores a part."""
        return [
            "scdae",
            "apply",
            self.source,
            self.model,
            target,
            *words_of(self.asked),
            "--shard",
            f"{part}/{self.n_parts}",
        ]


def read_plan(path: Path) -> Plan:
    """Read a plan; a ValueError where it is damaged or of another version of scdae's."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        number = values.pop("format")
        if number == _FORMAT:
            return Plan(**{field.name: values[field.name] for field in fields(Plan)})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}). Remove {path.parent} and begin anew.") from error
    raise ValueError(f"{path} has format {number!r}, and this version of scdae reads format {_FORMAT}.")


def check_same(there: Plan, own: Plan, folder: Path) -> None:
    """Raise a ValueError that says what differs between the parts that are there and the one that is to come."""
    anew = f"Remove {folder} to begin anew."
    if there.n_parts != own.n_parts:
        raise ValueError(
            f"{folder} was begun with {there.n_parts:,} parts, and this is one of {own.n_parts:,}. Pass --shard I/{there.n_parts}. {anew}"
        )
    if (there.n_obs, there.n_vars) != (own.n_obs, own.n_vars):
        raise ValueError(
            f"{folder} has parts of {there.n_obs:,} cells x {there.n_vars:,} genes ({there.source}), but INPUT has {own.n_obs:,} x "
            f"{own.n_vars:,}. {anew}"
        )
    for name, what in (
        ("cells", "other cells, or these in another order"),
        ("var_names", "other genes, or these in another order"),
        ("covariates", "other batches or covariates"),
    ):
        if getattr(there, name) != getattr(own, name):
            raise ValueError(f"{folder} has parts of {there.source}, and INPUT has {what}. {anew}")
    if there.fit != own.fit:
        raise ValueError(
            f"{folder} was begun with another model ({there.model}, fit {there.fit}), this one is {own.fit}. {anew}"
        )
    if there.version != own.version:
        raise ValueError(
            f"{folder} was begun with scdae {there.version}, and this is {own.version}, which may restore otherwise. {anew}"
        )
    if there.asked != own.asked or there.genes != own.genes:
        names = dict.fromkeys([*there.asked, *own.asked])
        words = [_difference(name, there.asked.get(name), own.asked.get(name)) for name in names]
        words = [word for word in words if word] or ["other genes in --genes"]
        raise ValueError(
            f"{folder} was begun {'; '.join(words)}. Pass the same options, or remove the folder to begin anew."
        )


def _difference(name: str, there: Any, own: Any) -> str:
    """Name an option that differs."""
    if there == own:
        return ""
    one, other = (" ".join(words_of({name: value})) if value else f"no {name}" for value in (there, own))
    return f"with {one}, and this part has {other}"


def words_of(asked: dict[str, Any]) -> list[str]:
    """Convert options to the words of a command line.

    Examples
    --------
    >>> words_of({"--threshold": 0.01, "--quantile": [0.05, 0.95], "--allow-nan": True})
    ['--threshold', '0.01', '--quantile', '0.05', '--quantile', '0.95', '--allow-nan']
    """
    words: list[str] = []
    for name, value in asked.items():
        for one in value if isinstance(value, list) else [value]:
            words += [name] if one is True else [name, str(one)]
    return words


def numbered(parts: list[int]) -> str:
    """Join the numbers of parts as schedulers take them, such as ``1-3,5``.

    Examples
    --------
    >>> numbered([2, 3, 4, 7])
    '2-4,7'
    """
    runs: list[list[int]] = []
    for part in parts:
        if runs and part == runs[-1][-1] + 1:
            runs[-1].append(part)
        else:
            runs.append([part])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
