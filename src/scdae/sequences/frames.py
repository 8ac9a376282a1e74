"""The windows that an object of gene sequences was made with, as it says itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from scdae.core.chimeras.kmers import Frame

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["RECORD", "fingerprint", "frame_of", "read_frame", "record_of"]

RECORD = "kmers"  # entry of uns


def frame_of(adata: AnnData, name: str) -> str | None:
    """Fingerprint of the windows that an object was made with; None where it does not say."""
    if RECORD not in adata.uns:
        return None
    record = record_of(adata, name)
    return str(record["frame"]) if "frame" in record else fingerprint(int(record["k"]), read_frame(record))


def fingerprint(k: int, frame: Frame) -> str:
    """Short name of the windows and words: the same only where variables mean the same."""
    digest = hashlib.sha256(str(k).encode())
    for part, kind in ((frame.anchors, "<i8"), (frame.places, "<f8"), (frame.edges, "<f8")):
        digest.update(np.ascontiguousarray(part, dtype=kind).tobytes())
    return digest.hexdigest()[:16]


def record_of(adata: Any, name: str) -> Mapping[str, Any]:
    """Return what :func:`kmers` noted of its windows."""
    if not hasattr(adata, "uns"):
        raise TypeError(f"{name} is a {type(adata).__name__}, and has to be what scdae.pp.kmers gives.")
    record = adata.uns.get(RECORD)
    if not isinstance(record, Mapping) or record.get("written_by") != "scdae.pp.kmers":
        raise ValueError(f"{name} was not made by scdae.pp.kmers: its uns['kmers'] is missing.")
    return record


def read_frame(record: Mapping[str, Any]) -> Frame:
    """Return the frame that was noted."""
    anchors, places, edges = (np.asarray(record[name]) for name in ("anchors", "places", "edges"))
    return Frame(anchors.astype(np.int64), places.astype(np.float64), edges.astype(np.float64))
