"""One part of a store that many jobs restore: which, of what, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from anndata import AnnData

import scdae
from scdae import __version__
from scdae.arguments.selection import positions
from scdae.cli import shared
from scdae.cli.shared.common import Clock
from scdae.cli.shared.data import Opened
from scdae.cli.shared.run import Run
from scdae.core.progress.fingerprint import digest
from scdae.files.targets import writes
from scdae.inputs.counts import unread_counts
from scdae.inputs.options import DataOptions
from scdae.model.known_fits import keep
from scdae.model.output_options import OutputOptions
from scdae.model.restore import find_genes
from scdae.outputs.blocks import BlockReader
from scdae.outputs.names import Names, check_corrected
from scdae.parts.collecting import Query, collect_parts
from scdae.parts.folder import Folder
from scdae.parts.geometry import height_for
from scdae.parts.plan import Plan, check_same
from scdae.parts.restoring import restore_part
from scdae.parts.store import make_store

__all__ = ["Asked", "apply_part", "check_shard", "collect_all"]


def check_shard(part: int, number: int, target: Path) -> None:
    """Raise unless there is such a part, and OUTPUT can be written in parts."""
    if not 1 <= part <= number:
        raise ValueError(
            f"--shard {part}/{number}: parts are numbered from 1 to {number}. In an array of jobs, submit --array=1-{number} (SLURM) or "
            f"-t 1-{number} (Grid Engine)."
        )
    if target.suffix != ".zarr":
        raise ValueError(f"--shard {part}/{number}: {target} has to end in .zarr. Parts are regions of one zarr store.")


@dataclass(frozen=True)
class Asked:
    """What was asked for of all cells, by the options of `scdae apply`; those of a plan are the same.

    Parameters
    ----------
    source, model_file
        INPUT and MODEL.
    options
        Options by their names, without those that were left out.
    """

    source: Path
    model_file: Path
    options: dict[str, Any]

    @staticmethod
    def of(source: Path, model_file: Path, **given: Any) -> Asked:
        """Return what was asked for, of the values of the command's options."""
        options = {f"--{name.replace('_', '-')}": value for name, value in given.items()}
        if list(options.get("--output") or ["mean"]) == ["mean"]:
            options.pop("--output", None)
        usual = {"--dtype": "float32", "--key-added": "scdae"}
        options = {
            name: str(value.absolute()) if isinstance(value, Path) else value
            for name, value in options.items()
            if value not in (None, False, []) and usual.get(name) != value
        }
        return Asked(Path(source).absolute(), Path(model_file).absolute(), options)

    def open(self, target: Path) -> Opened:
        """Open INPUT."""
        data = shared.data.open_source(
            self.source,
            self._get("--genome"),
            self._get("--layer"),
            self._get("--mask-layer"),
            genes_only=self._get("--genes-only", False),
            target=target,
        )
        if self._get("--obs") is not None:
            shared.data.join_obs(data.adata, Path(self._get("--obs")))
        shared.data.check_can_be_written(data.adata, target, alone=True)
        shared.data.check_in_place(self.source, target, alone=True, whole=data.whole)
        return data

    def query(self, opened: Opened, genes: list[str] | None) -> Query:
        """Return the data with the model that restores them; nothing of the counts is read."""
        adata, batch = opened.adata, self._get("--transform-batch")
        allow = {name: self._get(f"--{name.replace('_', '-')}", False) for name in ("allow_fractional", "allow_nan")}
        data = DataOptions(opened.layer, opened.mask, None, None, **allow)
        outputs, chances = tuple(self._get("--output", ["mean"])), self._get("--quantile", [])
        wanted = OutputOptions.checked(adata, outputs, None, chances, True, self._get("--threshold"))
        shared.data.check_form(wanted.threshold, self._get("--dtype", "float32"))
        model = scdae.DAE.load(self.model_file)
        fitted = model.fitted_model()
        check_corrected(batch, fitted.batch_levels)
        reader = BlockReader(
            fitted,
            unread_counts(adata, **data.counts),
            fitted.conditions(adata),
            wanted,
            fitted.batch_weights(batch),
            None if genes is None else positions(adata.var_names, genes, "genes"),
            np.dtype(self._get("--dtype", "float32")),
        )
        return Query(adata, data, reader, keep(model), batch, not opened.large)

    def plan(self, query: Query, genes: list[str] | None, n_parts: int) -> Plan:
        """Return the plan of parts of this."""
        n_obs, n_vars = query.adata.shape
        if n_parts > n_obs:
            raise ValueError(f"--shard: there are {n_obs:,} cells, which cannot be {n_parts:,} parts.")
        reader, wanted = query.reader, query.reader.wanted
        names = Names.of(self._get("--key-added", "scdae"), query.transform_batch, wanted.outputs, wanted.quantiles)
        names.check_free(query.adata, query.data.layer, overwrite=True)
        conditions = () if reader.conditions is None else reader.conditions
        n_genes = n_vars if genes is None else len(genes)
        return Plan(
            n_parts=n_parts,
            source=str(self.source),
            model=str(self.model_file),
            n_obs=n_obs,
            n_vars=n_vars,
            cells=digest([reader.counts.obs_names]),
            covariates=digest([np.asarray(part) for part in conditions]),
            var_names=digest([reader.counts.var_names]),
            fit=query.fit,
            asked=self.options,
            genes=genes,
            key=names.key,
            layers=names.layers,
            n_genes=n_genes,
            n_latent=reader.model.config.n_latent or 0,
            height=height_for(n_obs, n_vars, n_genes, n_parts),
            sparse=wanted.threshold is not None,
            dtype=str(reader.dtype),
        )

    def _get(self, name: str, otherwise: Any = None) -> Any:
        return self.options.get(name, otherwise)


def apply_part(run: Run, shard: tuple[int, int], asked: Asked, genes_file: Path | None, *, skip: bool) -> None:
    """Restore one part of OUTPUT into the folder in which it grows.

    Parameters
    ----------
    run
        The command, whose files were checked.
    shard
        Number of the part, from 1, and of all parts.
    asked
        What is asked for.
    genes_file
        List of the genes to write; None for all.
    skip
        Whether a part that is there ends the command as done.

    Raises
    ------
    ValueError
        There is no such part, or those that are there are of something else, or another process is writing it.
    FileExistsError
        The part is there.
    """
    part, number = shard
    target = Path() if run.target is None else run.target
    check_shard(part, number, target)
    run.clock = Clock()
    opened = asked.open(target)
    genes = shared.data.wanted_genes(genes_file, opened.adata)
    query = asked.query(opened, genes)
    find_genes(query.reader.model, query.reader.counts)  # for its warnings
    folder = Folder(target)
    with writes(target):
        plan = folder.begin(asked.plan(query, genes, number), make_store)
    about = folder.done(part)
    skipped = about is not None and not run.overwrite
    if skipped and not skip:
        raise FileExistsError(
            f"Part {part}/{number} of {target} is there. Pass --skip-existing to leave it, or --overwrite to restore it again."
        )
    run.clock.lap("reading")
    if about is None or not skipped:
        about = restore_part(folder, plan, part, query.reader)
        run.clock.lap("restoring and writing")
    start, stop = about["rows"]
    left = folder.missing(number)
    report = {
        "version": __version__,
        "part": part,
        "n_parts": number,
        "rows": [start, stop],
        "skipped": skipped,
        "missing": left,
    }

    def page(*, source: str, target: str, seconds: dict[str, float]) -> str:
        if skipped:
            return f"part {part}/{number} of {target} is there: skipped"
        spent = ", ".join(f"{step} {value:.1f} s" for step, value in seconds.items())
        what = f"{len(left)} of {number} parts are missing" if left else "all parts are there"
        return "\n".join(
            [
                f"scdae {__version__}: restored part {part} of {number}, cells {start + 1:,} to {stop:,} of {plan.n_obs:,}",
                "",
                f"  read     {source}, with {asked.model_file}",
                f"  wrote    {folder.path}",
                "",
                f"Now {what}" + (f": scdae collect {target}" if not left else "."),
                f"Time: {spent}.",
            ]
        )

    run.finish(lambda **known: {**known, **report}, page)


def collect_all(run: Run, folder: Folder, plan: Plan, asked: Asked) -> AnnData:
    """Make one result of all parts, and return it without its layers, and with zeros in place of the latent space.

    Parameters
    ----------
    run
        The command.
    folder, plan
        Where the parts are, and their plan.
    asked
        What was asked for.

    Raises
    ------
    ValueError
        INPUT or MODEL is no longer what the parts were restored from.
    """
    run.clock = Clock()
    query = asked.query(asked.open(folder.target), plan.genes)
    check_same(plan, asked.plan(query, plan.genes, plan.n_parts), folder.path)
    run.clock.lap("reading")
    elements, _ = collect_parts(folder, plan, query, overwrite=run.overwrite)
    run.clock.lap("collecting")
    latent = da.zeros((plan.n_obs, plan.n_latent), dtype=np.float32)
    return AnnData(**{name: elements[name] for name in ("obs", "var", "uns")}, obsm={f"X_{plan.key}": latent})
