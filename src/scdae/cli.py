"""The `scdae` command. Nothing heavy is imported before a command needs it, so that help comes at once."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app", "main"]

app = typer.Typer(
    name="scdae",
    help="Restore single-cell RNA-seq counts with a denoising autoencoder.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Likelihood(StrEnum):
    """Laws of the counts."""

    zinb = "zinb"
    nb = "nb"
    poisson = "poisson"


class Scale(StrEnum):
    """What is written into the layer."""

    mean = "mean"
    prior = "prior"
    rate = "rate"
    sd = "sd"
    log1p = "log1p"


Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def main() -> None:
    """Run the command; the entry point of the `scdae` script."""
    signal.signal(signal.SIGTERM, _terminate)
    app(prog_name="scdae")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"scdae {version('scdae')}")
        raise typer.Exit()


@app.callback()
def _scdae(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


@app.command()
def impute(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Raw counts: .h5ad, .zarr, 10x .h5, or folder with matrix.mtx.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Result, .h5ad or .zarr.")],
    layer: Annotated[str | None, typer.Option(help="Layer with the raw counts.", show_default="X")] = None,
    batch_key: Annotated[str | None, typer.Option(help="Column of obs with the batch.", show_default="none")] = None,
    mask_layer: Annotated[
        str | None,
        typer.Option(help="Boolean layer, true where an entry was measured.", show_default="all measured"),
    ] = None,
    likelihood: Annotated[Likelihood, typer.Option(help="Law of the counts.")] = Likelihood.zinb,
    output_scale: Annotated[
        Scale,
        typer.Option(
            help="mean: expected counts at the cell's own depth; prior: the same without the cell's own counts, fully "
            "smoothed; rate: proportions; sd: standard deviation of the mean; log1p: expected log1p of counts per 10,000."
        ),
    ] = Scale.mean,
    depth: Annotated[
        float | None,
        typer.Option(help="Molecules a cell, for --output-scale log1p.", show_default="the cell's own"),
    ] = None,
    key_added: Annotated[
        str, typer.Option(help="Name of the layer, and start of the other names, to write.")
    ] = "scdae",
    seed: Annotated[int, typer.Option(min=0, help="Seed: same seed, same machine, same result.")] = 0,
    max_epochs: Annotated[
        int | None, typer.Option(min=1, help="Most passes over the cells.", show_default="by size of the data")
    ] = None,
    genome: Annotated[
        str | None, typer.Option(help="Genome to read from a 10x file of several.", show_default="the only one")
    ] = None,
    allow_fractional: Annotated[
        bool, typer.Option("--allow-fractional", help="Admit estimated counts (Salmon, alevin, ambient-corrected).")
    ] = False,
    allow_nan: Annotated[
        bool, typer.Option("--allow-nan", help="Take NaN for entries that were not measured.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUTPUT, and a layer of the name given, if they exist.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print more about each step.")] = False,
    debug: Debug = False,
) -> None:
    """Restore the counts of INPUT and write them, next to all that INPUT holds, to OUTPUT."""
    if quiet and verbose:
        raise typer.BadParameter("--quiet and --verbose exclude each other.")
    with _one_line_errors(debug, about=str(source)):
        from scdae.io import check_target, read_any, write_atomic

        check_target(target, overwrite=overwrite)
        _set_verbosity(quiet=quiet, verbose=verbose)
        clock = _Clock()
        adata = read_any(source, genome=genome)
        clock.lap("reading")

        from scdae import pp

        pp.impute(
            adata,
            layer=layer,
            mask=mask_layer,
            batch_key=batch_key,
            key_added=key_added,
            likelihood=likelihood.value,
            output=output_scale.value,
            depth=depth,
            max_epochs=max_epochs,
            seed=seed,
            allow_fractional=allow_fractional,
            allow_nan=allow_nan,
            overwrite=overwrite,
        )
        clock.lap("restoring")
        write_atomic(adata, target, overwrite=overwrite)
        clock.lap("writing")
        if not quiet:
            from scdae.summary import describe_run
            from scdae.validate import describe_source

            read = f"{source}, {describe_source(layer)}"
            typer.echo(describe_run(adata, key_added, source=read, target=str(target), seconds=clock.laps))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write demo.h5ad and demo.png.")] = Path("demo_output"),
    cells: Annotated[int, typer.Option(min=50, help="Cells to simulate.")] = 3000,
    genes: Annotated[int, typer.Option(min=50, help="Genes to simulate.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulation and of the training.")] = 0,
    max_epochs: Annotated[
        int | None, typer.Option(min=1, help="Most passes over the cells.", show_default="by size of the data")
    ] = None,
    debug: Debug = False,
) -> None:
    """Simulate cells whose truth is known, restore their counts, and say how much closer to the truth they came."""
    with _one_line_errors(debug):
        from scdae import demo as job

        typer.echo(job.run(folder, n_cells=cells, n_genes=genes, seed=seed, max_epochs=max_epochs)["text"])


@app.command()
def info(debug: Debug = False) -> None:
    """Print versions, the device that JAX uses, and the processor cores: what a report of a problem needs."""
    with _one_line_errors(debug):
        import os
        import platform
        from importlib.metadata import PackageNotFoundError, version

        rows = [("python", f"{platform.python_version()} on {platform.platform()}")]
        for name in ("scdae", "jax", "jaxlib", "flax", "optax", "anndata", "scanpy", "numpy", "scipy"):
            try:
                rows.append((name, version(name)))
            except PackageNotFoundError:
                rows.append((name, "not installed"))
        import jax

        rows += [("device", f"{device.platform}:{device.id} ({device.device_kind})") for device in jax.devices()]
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        threads = os.environ.get("OMP_NUM_THREADS", "not set")
        rows.append(("cores", f"{usable} usable of {os.cpu_count()}; OMP_NUM_THREADS {threads}"))
        for name, value in rows:
            typer.echo(f"{name:<8} {value}")


class _Clock:
    """Seconds that each step took."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.laps[step] = now - self._last
        self._last = now


def _set_verbosity(*, quiet: bool, verbose: bool) -> None:
    import scdae

    scdae.settings.verbosity = 0 if quiet else 3 if verbose else 2


@contextmanager
def _one_line_errors(debug: bool, about: str = "") -> Iterator[None]:
    """End with code 1 and one line for whatever goes wrong, with code 130 when interrupted."""
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(130) from None
    except Exception as error:
        if debug:
            raise
        text = _as_options(" ".join(str(error).split()))
        if isinstance(error, MemoryError):
            text = f"not enough memory. {text}"
        elif not isinstance(error, (ValueError, TypeError, OSError)):
            text = f"unexpected {type(error).__name__}: {text} (--debug shows where)"
        typer.echo(f"error: {text}" if about in text else f"error: {about}: {text}", err=True)
        raise typer.Exit(1) from error


def _as_options(text: str) -> str:
    """Call options as they are called on the command line: `layer='umi'` becomes `--layer umi`."""
    text = re.sub(r"\bmask='([^']*)'", r"--mask-layer \1", text)
    text = re.sub(r"\b(layer|batch_key|key_added|genome)=(?:'([^']*)'|\.\.\.)", _option, text)
    return re.sub(r"\b(allow_fractional|allow_nan|overwrite)=True", _option, text)


def _option(found: re.Match[str]) -> str:
    name = "--" + found[1].replace("_", "-")
    value = found[2] if found.re.groups > 1 else None
    return f"{name} {value}" if value else name


def _terminate(*_: object) -> None:
    """On SIGTERM, leave by the way that removes unfinished files."""
    sys.exit(143)


if __name__ == "__main__":
    main()
