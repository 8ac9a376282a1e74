"""The file that `scdae impute` and `scdae apply` write: what goes into it, whether there is room for it, and writing it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from scdae.cli import pages, shared
from scdae.cli.shared.report import run_report
from scdae.cli.shared.run import Run
from scdae.cli.shared.skip import key_of

__all__ = ["ResultFile"]


class ResultFile:
    """Restored data on their way to OUTPUT: opens INPUT, checks that the result can be written, and writes it.

    Parameters
    ----------
    run
        The command, which has a target.
    genome, layer, mask, genes_only
        What is read of INPUT, as they were given.
    obs
        Table of further columns of obs.
    genes, dtype, threshold, n_layers, results_only
        What is written of the results, and as what, as they were given.
    key_added, transform_batch
        Determine the name of the layer.

    Attributes
    ----------
    opened
        What INPUT holds.
    genes
        Genes to write; None for all.
    alone
        Whether the results are written without the data.

    Raises
    ------
    ValueError, OSError
        INPUT cannot be read, the result cannot be written, or there is no room for it.
    """

    def __init__(
        self,
        run: Run,
        genome: str | None,
        layer: str | None,
        mask: str | None,
        *,
        genes_only: bool,
        obs: Path | None,
        genes: Path | None,
        dtype: str,
        threshold: float | None,
        n_layers: int,
        results_only: bool,
        key_added: str,
        transform_batch: str | None,
    ):
        if run.target is None:
            raise ValueError("A result needs a target.")
        self._run, self._target, self._layer = run, run.target, layer
        self.opened = run.open(genome, layer, mask, genes_only=genes_only, obs=obs, avoid_target=True)
        adata = self.opened.adata
        self.genes = shared.data.wanted_genes(genes, adata)
        self.dtype, self.key = dtype, key_of(key_added, transform_batch)
        self.alone = self.opened.large or results_only or genes is not None or dtype != "float32"
        shared.data.check_can_be_written(adata, run.target, alone=self.alone)
        shared.data.check_in_place(run.source, run.target, alone=self.alone, whole=self.opened.whole)
        pages.check_result_room(run.target, adata, self.genes, dtype, n_layers, threshold, alone=self.alone)
        run.clock.lap("reading")

    def write(self, model_file: Path | None = None) -> None:
        """Write the restored data and report them; the page names the model's file where there is one."""
        self._run.clock.lap("restoring")
        written = shared.data.write_output(
            self.opened.adata,
            self._target,
            self.key,
            alone=self.alone,
            genes=self.genes,
            dtype=self.dtype,
            overwrite=self._run.overwrite,
        )
        self._run.clock.lap("restoring and writing" if self.alone else "writing")

        def page(*, source: str, target: str, seconds: dict[str, float]) -> str:
            read = f"{source}, {shared.data.describe_source(self._layer)}"
            read += "" if model_file is None else f", with {model_file}"
            return pages.describe_run(written, self.key, source=read, target=target, seconds=seconds, alone=self.alone)

        self._run.finish(partial(run_report, written, self.key), page)
