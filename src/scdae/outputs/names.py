"""Names under which `scdae.pp.impute` writes, found free before the fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae.arguments.names import check_name
from scdae.matrices.obs_columns import level_name
from scdae.outputs.slots import check_free

if TYPE_CHECKING:
    from anndata import AnnData


__all__ = ["Names", "check_corrected", "corrected_key", "layers_of", "output_layers", "outputs_of", "quantile_layers"]

_WRITER = "scdae.pp.impute"
_VAR = ("dispersion", "dropout", "zero_inflated", "zero_inflated_probability", "gate", "gain", "helped")


@dataclass(frozen=True)
class Names:
    """Names of all that one call writes."""

    key: str
    output_layers: tuple[str, ...]
    quantile_layers: tuple[str, ...]

    @staticmethod
    def of(key_added: str, transform_batch: str | None, outputs: Sequence[str], chances: Sequence[float] = ()) -> Names:
        """Return the names under `key_added`, to which those of corrected layers append the batch."""
        if transform_batch is not None:
            check_name(key_added, "key_added")
            key_added = corrected_key(key_added, transform_batch)
        return Names(key_added, tuple(output_layers(key_added, outputs)), tuple(quantile_layers(key_added, chances)))

    @property
    def layers(self) -> list[str]:
        """All layers."""
        return [*self.output_layers, *self.quantile_layers]

    @property
    def latent(self) -> str:
        """Entry of `obsm`."""
        return f"X_{self.key}"

    def check_free(self, adata: AnnData, layer: str | None, *, overwrite: bool, copy: bool = False) -> None:
        """Raise ValueError where a name is taken by something that another call wrote."""
        check_name(self.key, "key_added")
        if layer in self.layers:
            what = "is" if layer == self.key else "would also write"
            raise ValueError(
                f"key_added={self.key!r} {what} the layer that the counts are read from (layer={layer!r}). Choose another."
            )
        if not overwrite:
            self._check_owners(adata)
        names = {
            "layers": tuple(self.layers),
            "obsm": (self.latent,),
            "var": tuple(f"{self.key}_{name}" for name in _VAR),
            "obs": (f"{self.key}_gain",),
            "uns": (self.key,),
        }
        check_free(adata, names, self.key, _WRITER, overwrite=overwrite, copy=copy)

    def stale(self, adata: AnnData) -> list[str]:
        """Layers that an earlier call wrote under the same key, and this one does not."""
        return [name for name in layers_of(adata, self.key) if name in adata.layers and name not in self.layers]

    def _check_owners(self, adata: AnnData) -> None:
        """Raise ValueError where a layer belongs to another call's result, under a key of its own."""
        for key in adata.uns:
            taken = [name for name in layers_of(adata, key) if key != self.key and name in self.layers]
            taken = [name for name in taken if name in adata.layers]
            if taken:
                raise ValueError(
                    f"adata.layers[{taken[0]!r}] belongs to adata.uns[{key!r}], which an earlier call of {_WRITER} wrote. Pass "
                    "another key_added=, or overwrite=True to replace it."
                )


def layers_of(adata: AnnData, key: Any) -> list[str]:
    """Return the layers that `scdae.pp.impute` wrote under a key, as recorded in `uns`; none without a record."""
    entry = adata.uns.get(key)
    if not isinstance(entry, Mapping) or entry.get("written_by") != _WRITER:
        return []
    if "units" in entry:
        return [str(name) for name in entry["units"]]
    return [key, *quantile_layers(key, np.atleast_1d(entry.get("quantiles", ())).tolist())]  # of earlier versions


def outputs_of(run: Mapping[str, Any]) -> list[str]:
    """Return the outputs of a run, as recorded in `uns`; earlier versions recorded one."""
    return [str(name) for name in np.atleast_1d(run.get("outputs", run["output"]))]


def output_layers(key: str, outputs: Sequence[str]) -> list[str]:
    """Return the layers of the outputs: the key for the first, and names such as ``scdae_log1p`` for the others."""
    return [key if i == 0 else f"{key}_{output}" for i, output in enumerate(outputs)]


def run_of_layer(uns: Mapping[Any, Any], name: str) -> tuple[str, str]:
    """Return the key of the run that a layer belongs to, and the output that it holds; for quantiles, the mean."""
    if isinstance(uns.get(name), Mapping):
        return name, str(uns[name].get("output", "mean"))
    for key, run in uns.items():
        if isinstance(run, Mapping) and run.get("written_by") == _WRITER and name in run.get("units", ()):
            outputs = outputs_of(run)
            return key, dict(zip(output_layers(key, outputs), outputs, strict=True)).get(name, "mean")
    return name, "mean"


def corrected_key(key: str, transform_batch: str) -> str:
    """Return the name of a layer corrected for batches, such as ``scdae_as_average``, without slashes."""
    return f"{key}_as_{level_name(transform_batch)}".replace("/", "_")


def check_corrected(transform_batch: str | None, levels: Sequence[str]) -> None:
    """Raise ValueError where layers corrected to two batches would have one name."""
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
    """Return the names of the layers of quantiles, such as ``scdae_q05`` and ``scdae_q97.5``."""
    percents = (f"{100 * q:.10g}" for q in chances)
    return [f"{key}_q{'0' if len(percent.split('.')[0]) < 2 else ''}{percent}" for percent in percents]
