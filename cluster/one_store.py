"""The trial of `parts.slurm`: an array whose tasks restore parts of one store, a task that is missing, and what collects them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trials import Trial

__all__ = ["parts_of_one_store"]

_SCRIPT = Path(__file__).resolve().parent / "parts.slurm"
_FILES = ("samples/s2.h5ad", "of_all.scdae", "restored.zarr")
_FIT = "scdae fit samples/s2.h5ad of_all.scdae --likelihood nb --max-epochs 2 --effort fast --quiet"


def parts_of_one_store(t: Trial) -> None:
    """Two of three parts, the third being named as missing; then that one alone."""
    model = t.wrap(_FIT)

    def parts(first: int, last: int) -> list[str]:
        options = (f"--array={first}-{last}", "--mem=1500M", f"--dependency=afterok:{model}")
        job = t.submit(_SCRIPT, *options, arguments=_FILES, PARTS="3")
        return [f"{job}_{i}" for i in range(first, last + 1)]

    def collect(after: str) -> str:
        return t.wrap("scdae collect restored.zarr", f"--dependency=afterany:{after}")

    some = parts(1, 2)
    early = collect(some[0].partition("_")[0])
    good = t.all_completed(model, *some) and t.ended(early) == ("FAILED", "75:0") and t.said(early, "--array=3")
    good = good and not (t.folder / "restored.zarr").exists()
    t.say("parts.slurm: 2 of 3, then collect", "a part is missing", [*some, early], good, "named, nothing written")

    rest = parts(3, 3)
    last = collect(rest[0].partition("_")[0])
    good = t.all_completed(*rest, last) and (t.folder / "restored.zarr/layers").is_dir()
    good = good and not (t.folder / "restored.zarr.parts").exists()
    t.say("  the third alone, then collect", "", [*rest, last], good, "one store")
