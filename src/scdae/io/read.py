"""Files in, by what they hold and not by how they are called."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from scdae.files.errors import reading
from scdae.io.hdf5 import open_hdf5
from scdae.io.loom import read_loom
from scdae.io.mtx import main_matrix, read_mtx
from scdae.io.other_kinds import BIOM, FROM_R, READ, check_is_file, describe_other, first_bytes, of_r_folder
from scdae.io.stored import is_store, read_anndata
from scdae.io.tenx import is_v2_group, read_10x_h5
from scdae.io.text import is_table, read_table

if TYPE_CHECKING:
    import h5py
    from anndata import AnnData

__all__ = ["is_anndata", "read_any"]

_HDF5_START = b"\x89HDF\r\n\x1a\n"
_FEW = 5  # names shown before "..."


def read_any(path: str | os.PathLike[str], *, genome: str | None = None, transpose: bool = False) -> AnnData:
    """Read counts from a file or folder, whose kind is found by its content.

    Parameters
    ----------
    path
        AnnData as .h5ad or .zarr; loom; 10x HDF5 of any version; a Matrix Market file with names of cells and genes
        beside it, or the folder with these; a table of a SpatialData store; a table of text, such as .csv.
    genome
        Which genome, where a 10x file holds several.
    transpose
        Whether a table of text has genes in rows. Other kinds say themselves which are which.

    Returns
    -------
    AnnData
        In memory. Of a 10x file only the genes, called by symbol; the log says what was left out.

    Raises
    ------
    FileNotFoundError
        There is nothing at `path`.
    ValueError
        It is of another kind, damaged, without a count matrix, or of several genomes. The message names the file and
        says what to do, in one line.

    Examples
    --------
    >>> import anndata, numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     anndata.AnnData(np.ones((3, 2))).write_h5ad(folder + "/a.h5ad")
    ...     read_any(folder + "/a.h5ad").shape
    (3, 2)
    """
    path = Path(path)
    check_is_file(path)
    if transpose and (path.is_dir() or not is_table(path)):
        raise ValueError(
            f"--transpose is for tables of text, and {path} is none: it says itself where its cells are. Leave it out."
        )
    if path.is_dir():
        return _read_store(path, genome) if is_store(path) else _read_folder(path, genome)
    with path.open("rb") as stream:
        start = stream.read(16)
    if not start:
        raise ValueError(f"{path} is empty.")
    if start.startswith(_HDF5_START) or h5py.is_hdf5(path):  # MuData puts a line of text before the signature
        return _read_hdf5(path, genome)
    if first_bytes(path).startswith(b"%%MatrixMarket") or path.name.endswith((".mtx", ".mtx.gz")):
        with reading(path):
            return read_mtx(path, genome)
    if is_table(path):
        with reading(path):
            return read_table(path, transpose=transpose)
    raise ValueError(describe_other(path))


def is_anndata(path: Path) -> bool:
    """Return whether there is an .h5ad or .zarr at `path`, by what it holds; False as well where it cannot be read."""
    if path.is_dir():
        return is_store(path) and (path / "var").is_dir()
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    try:
        with reading(path), h5py.File(path, "r") as file:
            return _hdf5_kind(file) == "anndata"
    except (OSError, ValueError):
        return False


def _read_store(path: Path, genome: str | None) -> AnnData:
    if {"obs", "var"} <= _parts(path):
        _refuse_genome(path, genome)
        return read_anndata(path)
    if (path / "mod").is_dir():
        raise ValueError(_several_modalities(path, sorted(_parts(path / "mod"))))
    for home in (path, path / "tables", path / "table"):  # SpatialData
        tables = [home / name for name in sorted(_parts(home)) if {"obs", "var"} <= _parts(home / name)]
        if tables:
            shown = ", ".join(str(table) for table in tables[:_FEW]) + (", ..." if len(tables) > _FEW else "")
            raise ValueError(f"{path} holds {len(tables)} table(s) of counts beside other things: pass {shown}.")
    raise ValueError(f"{path} is a zarr store, but holds no AnnData (no obs and var). {READ}.")


def _parts(path: Path) -> set[str]:
    return {p.name for p in path.iterdir() if p.is_dir()} if path.is_dir() else set()


def _read_folder(path: Path, genome: str | None) -> AnnData:
    matrix = main_matrix(path)
    if matrix is None:
        folders = [p for p in sorted(path.iterdir()) if p.is_dir() and not p.name.startswith(".")]
        inner = {p.name: main for p in folders if (main := main_matrix(p)) is not None}
        if len(inner) > 1 and genome not in inner:
            shown = ", ".join(repr(name) for name in list(inner)[:_FEW]) + (", ..." if len(inner) > _FEW else "")
            raise ValueError(f"{path} holds several genomes or samples ({shown}). Pass one of these folders.")
        if genome in inner:
            matrix, genome = inner[str(genome)], None
        elif inner:
            matrix = next(iter(inner.values()))
    if matrix is None:
        if (saved := of_r_folder(path)) is not None:
            raise ValueError(saved)
        files = [p for p in sorted(path.iterdir()) if p.suffix in (".h5", ".h5ad", ".loom", ".zarr") or _is_mtx(p)]
        hint = f" Pass a file in it, such as {files[0]}." if files else ""
        raise ValueError(f"{path} is a folder that holds neither a zarr store nor a matrix.mtx. {READ}.{hint}")
    with reading(path):
        return read_mtx(matrix, genome)


def _is_mtx(path: Path) -> bool:
    """Return whether a file is a matrix though its name does not say so: writeMM takes any."""
    return path.is_file() and first_bytes(path, 16).startswith(b"%%MatrixMarket")


def _read_hdf5(path: Path, genome: str | None) -> AnnData:
    with reading(path), open_hdf5(path) as file:
        kind = _hdf5_kind(file)
        if kind == "10x":
            return read_10x_h5(file, genome)
        if kind == "loom":
            return read_loom(file)
        if kind != "anndata":
            raise ValueError(_no_counts(path, file, kind))
    _refuse_genome(path, genome)
    return read_anndata(path)


def _no_counts(path: Path, file: h5py.File, kind: str) -> str:
    if kind == "mudata":
        return _several_modalities(path, list(file["mod"]))
    if kind == "molecule_info":
        return (
            f"{path} lists single molecules (molecule_info.h5 of Cell Ranger) and holds no count matrix. Use "
            "filtered_feature_bc_matrix.h5 from the same folder."
        )
    if kind == "h5seurat":
        return f"{path} is an object of Seurat (h5Seurat). In R, SeuratDisk::Convert('{path.name}', dest = 'h5ad') makes an .h5ad of it."
    if kind == "biom":
        return f"{path} is {BIOM}."
    if kind == "assays" and (saved := of_r_folder(path.parent)) is not None:
        return saved
    shown = ", ".join(repr(key) for key in list(file)[:8]) or "nothing"
    found = f"{path} is an HDF5 file without a count matrix that is known here: it holds {shown}."
    matrix = _first_matrix(file)
    if matrix is None:
        return f"{found} {READ}."
    line = FROM_R.format(counts="counts")
    return (
        f"{found} {matrix!r} is a matrix, but nothing says of which cells and genes. {line}, with their names. {READ}."
    )


def _first_matrix(file: h5py.File) -> str | None:
    """Name of the first dataset of numbers with two sides, such as rhdf5's h5write makes."""

    def look(name: str, item: object) -> str | None:
        is_matrix = isinstance(item, h5py.Dataset) and len(item.shape or ()) == 2 and item.dtype.kind in "iuf"
        return name if is_matrix else None

    return file.visititems(look)


def _hdf5_kind(file: h5py.File) -> str:
    keys = set(file)
    if "mod" in keys and hasattr(file["mod"], "keys"):
        return "mudata"
    if {"obs", "var"} <= keys:
        return "anndata"
    if {"matrix", "row_attrs", "col_attrs"} <= keys:
        return "loom"
    if {"assays", "cell.names"} <= keys:
        return "h5seurat"
    if {"observation", "sample"} <= keys:
        return "biom"
    if keys and all(re.fullmatch(r"assay\d+", key) for key in keys):
        return "assays"
    if {"barcode_idx", "feature_idx"} <= keys or {"barcode", "umi"} <= keys:
        return "molecule_info"
    if ("matrix" in keys and hasattr(file["matrix"], "keys")) or any(is_v2_group(file[key]) for key in keys):
        return "10x"
    return "unknown"


def _refuse_genome(path: Path, genome: str | None) -> None:
    if genome is not None:
        raise ValueError(f"genome={genome!r} is for 10x files, but {path} is an AnnData. Leave it out.")


def _several_modalities(path: Path, names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_FEW]) + (", ..." if len(names) > _FEW else "")
    return (
        f"{path} holds several modalities ({shown}). Save the one with gene counts on its own: "
        "mudata.read(...).mod[...].write_h5ad(...)."
    )
