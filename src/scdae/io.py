"""Files in, by what they hold and not by how they are called."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scdae.tenx import find_mtx, is_v2_group, read_10x_h5, read_mtx

if TYPE_CHECKING:
    from collections.abc import Callable

    import h5py
    from anndata import AnnData

__all__ = ["is_anndata", "read_any"]

_READ = "scdae reads .h5ad, .zarr, 10x .h5 and folders with matrix.mtx, barcodes.tsv and features.tsv"
_HDF5_START = b"\x89HDF\r\n\x1a\n"


def read_any(path: str | os.PathLike[str], *, genome: str | None = None) -> AnnData:
    """Read counts from a file or folder, whose kind is found by its content.

    Parameters
    ----------
    path
        AnnData as .h5ad or .zarr; 10x HDF5 of any version; folder with Matrix Market files.
    genome
        Which genome, where a 10x file holds several.

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
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    if path.is_dir():
        return _read_folder(path, genome)
    import h5py

    with open(path, "rb") as stream:
        start = stream.read(16)
    if not start:
        raise ValueError(f"{path} is empty.")
    if start.startswith(_HDF5_START) or h5py.is_hdf5(path):  # MuData puts a line of text before the signature
        return _read_hdf5(path, genome)
    if start.startswith(b"%%MatrixMarket") or path.name.endswith(".mtx.gz"):
        raise ValueError(f"{path} is one part of a Matrix Market folder: pass the folder {path.parent} instead.")
    if start.startswith(b"PK"):
        raise ValueError(f"{path} is a zip archive: unpack it and pass what it holds.")
    raise ValueError(
        f"{path} is of a kind that cannot be read here. {_READ}. Tables of text can be read with pandas or "
        "anndata.io.read_csv (cells in rows) and saved with write_h5ad."
    )


def is_anndata(path: Path) -> bool:
    """Whether there is an .h5ad or .zarr at `path`, by what it holds."""
    import h5py

    if path.is_dir():
        return bool(
            {p.name for p in path.iterdir()} & {".zgroup", "zarr.json", ".zmetadata"} and (path / "var").is_dir()
        )
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r") as file:
            return _hdf5_kind(file) == "anndata"
    except OSError:
        return False


def _read_folder(path: Path, genome: str | None) -> AnnData:
    names = {p.name for p in path.iterdir()}
    if names & {".zgroup", "zarr.json", ".zmetadata"}:
        if "mod" in names:
            raise ValueError(_several_modalities(path, [p.name for p in (path / "mod").iterdir() if p.is_dir()]))
        if not {"obs", "var"} <= names:
            raise ValueError(f"{path} is a zarr store, but holds no AnnData (no obs and var). {_READ}.")
        return _read_anndata(path, genome, "read_zarr")
    parts = find_mtx(path)
    if not parts:
        inner = {p.name: found for p in sorted(path.iterdir()) if p.is_dir() and (found := find_mtx(p))}
        if len(inner) > 1 and genome not in inner:
            shown = ", ".join(repr(name) for name in inner)
            raise ValueError(f"{path} holds several genomes or samples ({shown}). Pass one of these folders.")
        if genome in inner:
            parts, genome = inner[str(genome)], None
        elif inner:
            parts = next(iter(inner.values()))
    if not parts:
        raise ValueError(f"{path} is a folder that holds neither a zarr store nor a matrix.mtx. {_READ}.")
    return _guarded(path, lambda: read_mtx(parts, genome))


def _read_hdf5(path: Path, genome: str | None) -> AnnData:
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(_damaged(path, error)) from error
    with file:
        kind = _hdf5_kind(file)
        if kind == "mudata":
            raise ValueError(_several_modalities(path, list(file["mod"])))
        if kind == "10x":
            return _guarded(path, lambda: read_10x_h5(file, genome))
        if kind == "molecule_info":
            raise ValueError(
                f"{path} lists single molecules (molecule_info.h5 of Cell Ranger) and holds no count matrix. Use "
                "filtered_feature_bc_matrix.h5 from the same folder."
            )
        if kind == "loom":
            raise ValueError(f"{path} is a loom file. {_READ}. Convert it: anndata.io.read_loom(...).write_h5ad(...).")
        if kind == "unknown":
            shown = ", ".join(repr(key) for key in list(file)[:8]) or "nothing"
            raise ValueError(
                f"{path} is an HDF5 file without a count matrix that is known here: it holds {shown}. {_READ}."
            )
    return _read_anndata(path, genome, "read_h5ad")


def _hdf5_kind(file: h5py.File) -> str:
    keys = set(file)
    if "mod" in keys and hasattr(file["mod"], "keys"):
        return "mudata"
    if {"obs", "var"} <= keys:
        return "anndata"
    if {"matrix", "row_attrs", "col_attrs"} <= keys:
        return "loom"
    if {"barcode_idx", "feature_idx"} <= keys or {"barcode", "umi"} <= keys:
        return "molecule_info"
    if ("matrix" in keys and hasattr(file["matrix"], "keys")) or any(is_v2_group(file[key]) for key in keys):
        return "10x"
    return "unknown"


def _read_anndata(path: Path, genome: str | None, reader: str) -> AnnData:
    import anndata

    if genome is not None:
        raise ValueError(f"genome={genome!r} is for 10x files, but {path} is an AnnData. Leave it out.")

    def read() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old formats, names that repeat: said elsewhere where it matters
            return getattr(anndata, reader)(path)

    return _guarded(path, read)


def _guarded(path: Path, read: Callable[[], AnnData]) -> AnnData:
    """Name the file in every failure to read it, in one line."""
    try:
        return read()
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {_first_line(error)}.") from error
    except (AttributeError, EOFError, IndexError, KeyError, OSError, RuntimeError, TypeError) as error:
        raise ValueError(_damaged(path, error)) from error


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} cannot be read: it is truncated or damaged ({_first_line(error)})."


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _several_modalities(path: Path, names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names)
    return (
        f"{path} holds several modalities ({shown}). Save the one with gene counts on its own: "
        "mudata.read(...).mod[...].write_h5ad(...)."
    )
