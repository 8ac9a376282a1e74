"""Writing results into an AnnData: never over what somebody else wrote, and all of it at the end."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from anndata import ImplicitModificationWarning

from scdae._log import get_logger
from scdae.arguments.names import fit_for_files

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["check_free", "warn_of_names", "writing_to"]


def warn_of_names(adata: AnnData) -> None:
    """Warn of names in the data that no file can have, before anything is computed that is to be written with them."""
    wrong = []
    for slot in ("obs", "var", "layers", "obsm", "varm", "obsp", "varp", "uns"):
        keys = getattr(adata, slot)
        keys = keys.columns if slot in ("obs", "var") else keys.keys()
        wrong += [f"{slot}[{key!r}]" for key in keys if key is not None and not fit_for_files(key)]
    if wrong:
        shown = ", ".join(wrong[:5]) + (", ..." if len(wrong) > 5 else "")
        get_logger().warning(
            f"scdae: {len(wrong):,} name(s) in adata cannot be written to .h5ad or .zarr files: {shown}. Files need text without "
            "'/', and not '.' or '..'. Rename before you write."
        )


def check_free(
    adata: AnnData,
    names: Mapping[str, tuple[str, ...]],
    record: str,
    writer: str,
    *,
    argument: str = "key_added",
    overwrite: bool = False,
    copy: bool = False,
) -> None:
    """Raise unless the names are free or hold an earlier result of the same function, and something can be written at all.

    Parameters
    ----------
    adata
        Where the results go.
    names
        What will be written, by its place (``"layers"``, ``"obs"`` and others).
    record
        Entry of `uns` in which the function signs its results.
    writer
        Name of the function.
    argument
        The argument that chooses the names, for the error.
    overwrite
        Whether to replace what is there.
    copy
        Whether the results go into a copy in memory.
    """
    if adata.isbacked and adata.is_view and not copy:
        raise ValueError(
            "adata is a part of an object that is on disk (backed), and AnnData writes nothing into such a part. Pass "
            "adata.to_memory(), or the whole object."
        )
    warn_of_names(adata)
    earlier = adata.uns.get(record)
    if overwrite or (isinstance(earlier, Mapping) and earlier.get("written_by") == writer):
        return
    for slot, wanted in names.items():
        taken = [name for name in wanted if name in getattr(adata, slot)]
        if taken:
            raise ValueError(
                f"adata.{slot}[{taken[0]!r}] is there already and was not written by {writer}. Pass another {argument}=, "
                "or overwrite=True to replace it."
            )


@contextmanager
def writing_to(adata: AnnData) -> Iterator[None]:
    """Silence anndata's warning that a view becomes a copy when it is written to, which the user has asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImplicitModificationWarning)
        yield
