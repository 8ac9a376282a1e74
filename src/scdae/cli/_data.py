"""Data in and out for the commands: small ones as they are, large ones left on disk and their results written alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from scdae.cli._common import home

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["DType", "Genes", "ResultsOnly", "Threshold", "Opened", "open_source", "wanted_genes", "write_output"]

Genes = Annotated[
    Path | None,
    typer.Option(
        callback=home,
        help="Text file of the genes to write, one a line; implies --results-only.",
        show_default="all",
        rich_help_panel="Output",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Leave out values below this: the layer is then sparse.", show_default="keep all", rich_help_panel="Output"
    ),
]
DType = Annotated[
    str,
    typer.Option("--dtype", help="float32 or float16; the latter implies --results-only.", rich_help_panel="Output"),
]
ResultsOnly = Annotated[
    bool,
    typer.Option(
        "--results-only",
        help="Write obs, var and the results, not what INPUT holds, cell by cell as they are restored. This is what happens "
        "where INPUT is too large to be held (see scdae.settings.max_entries) or is several files.",
        rich_help_panel="Output",
    ),
]


class Opened(NamedTuple):
    """Data to work on."""

    adata: AnnData
    layer: str | None  # that holds the counts
    mask: str | None  # layer that says what was observed
    large: bool  # left on disk


def open_source(source: Path, genome: str | None, layer: str | None, mask: str | None) -> Opened:
    """Open a file, folder or pattern of several files."""
    from scdae._settings import settings
    from scdae.io import is_anndata, read_any
    from scdae.ondisk import find_files, join_files, open_on_disk, stored_entries
    from scdae.replacing import put_back

    put_back(source)
    files = find_files(source)
    if len(files) > 1:
        if mask is not None:
            raise ValueError(
                f"mask={mask!r} is for one file. Of several, genes that one lacks count as not observed in it."
            )
        joint = join_files(files, layer=layer)
        return Opened(joint, None, "observed" if "observed" in joint.layers else None, True)
    if is_anndata(files[0]) and stored_entries(files[0]) > settings.max_entries:
        return Opened(open_on_disk(files[0]), layer, mask, True)
    return Opened(read_any(files[0], genome=genome), layer, mask, False)


def wanted_genes(path: Path | None, adata: AnnData) -> list[str] | None:
    """Names in a text file, once it is known that `adata` has them."""
    from scdae.positions import positions

    if path is None:
        return None
    names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    positions(adata.var_names, names, f"genes of {path}")
    return names


def write_output(
    adata: AnnData, target: Path, key: str, *, alone: bool, genes: list[str] | None, dtype: str, overwrite: bool
) -> AnnData:
    """Write all of it, or the results alone, and give what was written."""
    from scdae.output import write_atomic
    from scdae.results import results

    written = results(adata, key, genes=genes, dtype=dtype) if alone else adata
    write_atomic(written, target, overwrite=overwrite)
    return written
