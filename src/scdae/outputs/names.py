"""Names under which `scdae.pp.impute` writes, found free before the fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scdae.arguments.names import check_name
from scdae.inputs.covariates import level_name
from scdae.outputs.slots import check_free

if TYPE_CHECKING:
    from anndata import AnnData


__all__ = ["check_corrected", "check_names", "corrected_key", "quantile_layers"]


_WRITER = "scdae.pp.impute"


def check_names(
    adata: AnnData, key: str, layer: str | None, chances: tuple[float, ...], *, overwrite: bool, copy: bool = False
) -> None:
    """Raise unless what a run writes under `key` has its names to itself."""
    check_name(key, "key_added")
    if key == layer:
        raise ValueError(
            f"key_added={key!r} is the layer that the counts are read from (layer={layer!r}). Choose another."
        )
    check_free(adata, _columns(key, chances), key, _WRITER, overwrite=overwrite, copy=copy)


def _columns(key: str, chances: tuple[float, ...]) -> dict[str, tuple[str, ...]]:
    var = tuple(
        f"{key}_{name}"
        for name in ("dispersion", "dropout", "zero_inflated", "zero_inflated_probability", "gate", "gain", "helped")
    )
    layers = (key, *quantile_layers(key, chances))
    return {"layers": layers, "obsm": (f"X_{key}",), "var": var, "obs": (f"{key}_gain",), "uns": (key,)}


def corrected_key(key: str, transform_batch: str) -> str:
    """Name of what was corrected for batches, such as ``scdae_as_average``; slashes would be folders in a file."""
    return f"{key}_as_{level_name(transform_batch)}".replace("/", "_")


def check_corrected(transform_batch: str | None, levels: Sequence[str]) -> None:
    """Raise where what is corrected to one batch would have the name of what is corrected to another."""
    if transform_batch is None:
        return
    name = level_name(transform_batch)
    same = [level for level in levels if level != name and level.replace("/", "_") == name.replace("/", "_")]
    if same and "/" in name:
        raise ValueError(
            f"transform_batch={name!r}: layers cannot have '/' in their names, and with '_' in its place this one has that of batch "
            f"{same[0]!r}. Rename one of the two batches."
        )


def quantile_layers(key: str, chances: Sequence[float]) -> list[str]:
    """Names such as ``scdae_q05`` and ``scdae_q97.5``."""
    percents = (f"{100 * q:.10g}" for q in chances)
    return [f"{key}_q{'0' if len(percent.split('.')[0]) < 2 else ''}{percent}" for percent in percents]
