"""The file that `scdae impute` and `scdae apply` write: what goes into it, whether it has room, and writing it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scdae.cli import pages, shared
from scdae.cli.shared.report import run_report
from scdae.cli.shared.run import Run
from scdae.cli.shared.skip import key_of

if TYPE_CHECKING:
    from scdae.cli.shared.data import Opened

__all__ = ["ResultFile"]


class ResultFile:
    """Restored data on their way to OUTPUT.

    Parameters
    ----------
    run
        The command, which has a target.
    opened
        What INPUT holds.
    genes, dtype, threshold, n_quantiles, results_only
        As they were given: what is written of the results, and as what.
    key_added, transform_batch
        Say how the layer is called.

    Raises
    ------
    ValueError, OSError
        It cannot be written, or there is no room for it.
    """

    def __init__(
        self,
        run: Run,
        opened: Opened,
        *,
        genes: Path | None,
        dtype: str,
        threshold: float | None,
        n_quantiles: int,
        results_only: bool,
        key_added: str,
        transform_batch: str | None,
    ):
        if run.target is None:
            raise ValueError("A result needs a target.")
        self._run, self._target, self._adata = run, run.target, opened.adata
        self.genes = shared.data.wanted_genes(genes, opened.adata)
        self.dtype, self.key = dtype, key_of(key_added, transform_batch)
        self.alone = opened.large or results_only or genes is not None or dtype != "float32"
        shared.data.check_can_be_written(opened.adata, run.target, alone=self.alone)
        shared.data.check_in_place(run.source, run.target, alone=self.alone, whole=opened.whole)
        pages.check_result_room(run.target, opened.adata, self.genes, dtype, n_quantiles, threshold, alone=self.alone)

    def write(self, *, overwrite: bool, read: str) -> None:
        """Write what was restored, and report it; `read` says what was read, for the page."""
        self._run.clock.lap("restoring")
        written = shared.data.write_output(
            self._adata,
            self._target,
            self.key,
            alone=self.alone,
            genes=self.genes,
            dtype=self.dtype,
            overwrite=overwrite,
        )
        self._run.clock.lap("restoring and writing" if self.alone else "writing")

        def page(*, source: str, target: str, seconds: dict[str, float]) -> str:
            return pages.describe_run(written, self.key, source=read, target=target, seconds=seconds, alone=self.alone)

        self._run.finish(partial(run_report, written, self.key), page)
