"""Data in and out for the commands: small ones as they are, large ones left on disk and their results written alone."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from anndata import AnnData

from scdae._log import get_logger
from scdae._settings import settings
from scdae.arguments.gene_lists import read_gene_list
from scdae.arguments.numbers import check_form
from scdae.arguments.selection import positions
from scdae.core.runtime.memory import entries_to_hold, job_limit
from scdae.files.replacing import put_back
from scdae.files.writable import check_writable
from scdae.inputs.counts import counts_to_apply
from scdae.inputs.validate import describe_source
from scdae.io.on_disk import find_files, join_files, open_on_disk, stored_entries
from scdae.io.probing import probe
from scdae.io.read import is_anndata, read_any
from scdae.io.write import check_in_place, is_result_alone, write_atomic
from scdae.matrices.features import keep_genes
from scdae.matrices.obs_tables import join_obs

__all__ = [
    "Opened",
    "check_can_be_written",
    "check_form",
    "check_in_place",
    "describe_source",
    "join_obs",
    "normal_cells",
    "open_source",
    "probe_source",
    "wanted_genes",
    "write_atomic",
    "write_output",
]

_BYTES = 28  # of an entry that is held: as it is read, and as training has it


class Opened(NamedTuple):
    """Data to work on."""

    adata: AnnData
    layer: str | None  # that holds the counts
    mask: str | None  # layer that says what was observed
    large: bool  # left on disk
    whole: bool = True  # all that is there was read, not only the genes, .raw or one genome


def probe_source(source: Path) -> None:
    """Find out whether HDF5 files kill the library, before JAX starts: then there is no safe fork any more."""
    for file in find_files(source):
        probe(file)


def open_source(
    source: Path,
    genome: str | None,
    layer: str | None,
    mask: str | None,
    *,
    genes_only: bool = False,
    target: Path | None = None,
    transpose: bool = False,
) -> Opened:
    """Open a file, folder or pattern of several files.

    Parameters
    ----------
    source
        What to open.
    genome, layer, mask
        As they were given. ``layer="raw"`` is ``.raw``, with its own genes, where no layer is called so.
    genes_only
        Whether to leave out features that are certainly no genes.
    target
        Where the result goes: a pattern does not take it in.
    transpose
        Whether a table of text has genes in rows.
    """
    put_back(source)
    opened = _open(_without(source, target), genome, layer, mask, transpose)
    if not genes_only:
        return opened
    genes = keep_genes(opened.adata)
    return opened._replace(adata=genes, whole=opened.whole and genes.n_vars == opened.adata.n_vars)


def _open(files: list[Path], genome: str | None, layer: str | None, mask: str | None, transpose: bool) -> Opened:
    if transpose and len(files) > 1:
        raise ValueError("--transpose is for one table of text. Leave it out for several files.")
    if len(files) > 1:
        if mask is not None:
            raise ValueError(
                f"mask={mask!r} is for one file. Of several, genes that one lacks count as not observed in it."
            )
        joint = join_files(files, layer=layer)
        return Opened(joint, None, "observed" if "observed" in joint.layers else None, True)
    if is_anndata(files[0]) and _is_large(files[0], stored_entries(files[0])):
        on_disk = open_on_disk(files[0])
        if layer == "raw" and layer not in on_disk.layers:
            return Opened(open_on_disk(files[0], raw=True), None, mask, True, whole=False)
        return Opened(on_disk, layer, mask, True)
    adata = read_any(files[0], genome=genome, transpose=transpose)
    if layer == "raw" and layer not in adata.layers:
        return Opened(_of_raw(adata, files[0]), None, mask, False, whole=False)
    return Opened(adata, layer, mask, False, whole=is_anndata(files[0]))


def _is_large(file: Path, n_stored: int) -> bool:
    """Return whether a file is left on disk: for its size, or for the memory that this job has."""
    if n_stored > settings.max_entries:
        return True
    if n_stored <= entries_to_hold(n_stored, each=_BYTES):
        return False
    limit = job_limit()
    if limit is not None:
        get_logger().warning(
            f"scdae: {file} has {n_stored:,} stored entries, and this job has {limit.limit / 2**30:,.1f} GiB of memory "
            f"({limit.source}), so the file stays on disk and the results are written alone. With more memory OUTPUT holds all that "
            "INPUT does."
        )
    return True


def _of_raw(adata: AnnData, source: Path) -> AnnData:
    """Cells as they are, genes and counts of ``.raw``."""
    if adata.raw is None:
        raise ValueError(
            f"--layer raw: {source} has no .raw and no layer of that name. Leave --layer out, or name another."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that repeat: said when the counts are read
        return adata.raw.to_adata()


def _without(source: Path, target: Path | None) -> list[Path]:
    """Return the files that `source` stands for; a pattern does not take in the result of an earlier run."""
    files = find_files(source)
    if target is None or len(files) < 2 or not target.exists() or not is_result_alone(target):
        return files
    kept = [file for file in files if file.resolve() != target.resolve()]
    if len(kept) < len(files):
        get_logger().warning(f"{source} takes in {target}, the result itself, which is left out.")
    return kept


def wanted_genes(path: Path | None, adata: AnnData) -> list[str] | None:
    """Return the names in a text file, once it is known that `adata` has them."""
    if path is None:
        return None
    names = read_gene_list(path, adata.var_names)
    positions(adata.var_names, names, f"genes of {path}")
    return names


def check_can_be_written(adata: AnnData, target: Path, *, alone: bool = False) -> None:
    """Find out before the training whether what INPUT holds can be written to OUTPUT."""
    if target.suffix in (".h5ad", ".zarr"):
        check_writable(adata, target, alone=alone)


def write_output(
    adata: AnnData, target: Path, key: str, *, alone: bool, genes: list[str] | None, dtype: str, overwrite: bool
) -> AnnData:
    """Write all of it, or the results alone, and give what was written."""
    from scdae.outputs.results import results  # with JAX, which must not start before files are probed

    written = results(adata, key, genes=genes, dtype=dtype) if alone else adata
    write_atomic(written, target, overwrite=overwrite)
    return written


def normal_cells(normal: Opened, query: Opened, options: dict[str, Any]) -> AnnData:
    """Return the normal cells, whose counts are checked, with counts and mask where those of the query are."""
    counts_to_apply(normal.adata, layer=normal.layer, mask=normal.mask, **options)
    if normal.layer == query.layer and normal.mask == query.mask:
        return normal.adata
    adata = normal.adata
    x = adata.X if normal.layer is None else adata.layers[normal.layer]
    layers = {} if query.layer is None else {query.layer: x}
    if query.mask is not None and query.mask not in layers:
        layers[query.mask] = np.ones(adata.shape, bool) if normal.mask is None else adata.layers[normal.mask]
    return AnnData(x, obs=adata.obs, var=adata.var, layers=layers)
