"""Writing results into an AnnData: never over what somebody else wrote, and all of it at the end."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["check_free", "check_name", "writing_to"]


def check_name(value: object, argument: str) -> None:
    """Raise unless `value` can be the name of a layer or a column."""
    if not isinstance(value, str) or value in ("", ".", "..") or "/" in value:
        raise ValueError(
            f"{argument}={value!r}: use a name without '/', and not '.'; it becomes the name of what is written."
        )


def check_free(
    adata: AnnData,
    names: Mapping[str, tuple[str, ...]],
    record: str,
    writer: str,
    *,
    argument: str = "key_added",
    overwrite: bool = False,
) -> None:
    """Raise unless the names are free or hold an earlier result of the same function.

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
    """
    earlier = adata.uns.get(record)
    if overwrite or (isinstance(earlier, Mapping) and earlier.get("written_by") == writer):
        return
    for place, wanted in names.items():
        taken = [name for name in wanted if name in getattr(adata, place)]
        if taken:
            raise ValueError(
                f"adata.{place}[{taken[0]!r}] is there already and was not written by {writer}. Pass another {argument}=, "
                "or overwrite=True to replace it."
            )


@contextmanager
def writing_to(adata: AnnData) -> Iterator[None]:
    """A view becomes an object of its own when it is written to; that is what was asked for, so nothing is said."""
    from anndata import ImplicitModificationWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImplicitModificationWarning)
        yield
