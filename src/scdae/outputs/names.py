"""Names under which `scdae.pp.impute` writes, found free before the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scdae.arguments.names import check_name
from scdae.matrices.obs_columns import level_name
from scdae.outputs.slots import check_free

if TYPE_CHECKING:
    from anndata import AnnData


__all__ = ["Names", "check_corrected", "corrected_key", "quantile_layers"]

_WRITER = "scdae.pp.impute"
_VAR = ("dispersion", "dropout", "zero_inflated", "zero_inflated_probability", "gate", "gain", "helped")


@dataclass(frozen=True)
class Names:
    """Names of what one call writes."""

    key: str
    quantile_layers: tuple[str, ...]

    @staticmethod
    def of(key_added: str, transform_batch: str | None, chances: Sequence[float]) -> Names:
        """Names under `key_added`; those of what was corrected for batches have the batch behind it."""
        if transform_batch is not None:
            check_name(key_added, "key_added")
            key_added = corrected_key(key_added, transform_batch)
        return Names(key_added, tuple(quantile_layers(key_added, chances)))

    @property
    def layers(self) -> list[str]:
        """All layers."""
        return [self.key, *self.quantile_layers]

    @property
    def latent(self) -> str:
        """Entry of `obsm`."""
        return f"X_{self.key}"

    def check_free(self, adata: AnnData, layer: str | None, *, overwrite: bool, copy: bool = False) -> None:
        """Raise unless what is written has its names to itself."""
        check_name(self.key, "key_added")
        if self.key == layer:
            raise ValueError(
                f"key_added={self.key!r} is the layer that the counts are read from (layer={layer!r}). Choose another."
            )
        names = {
            "layers": tuple(self.layers),
            "obsm": (self.latent,),
            "var": tuple(f"{self.key}_{name}" for name in _VAR),
            "obs": (f"{self.key}_gain",),
            "uns": (self.key,),
        }
        check_free(adata, names, self.key, _WRITER, overwrite=overwrite, copy=copy)


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
