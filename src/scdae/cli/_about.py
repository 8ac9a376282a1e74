"""`scdae demo` and `scdae info`: does it work here, and what is here."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from scdae.cli.shared.common import one_line_errors, say
from scdae.cli.shared.options import Debug, JsonFile, home
from scdae.cli.shared.report import check_report, to_stdout, write_report
from scdae.core.runtime.memory import in_words, memory_limits
from scdae.core.runtime.threads import share_of_cores

__all__ = ["demo", "info"]


def demo(
    folder: Annotated[Path, typer.Argument(callback=home, help="Where to write demo.h5ad and demo.png.")] = Path(
        "demo_output"
    ),
    cells: Annotated[int, typer.Option(min=50, help="Cells to simulate.")] = 3000,
    genes: Annotated[int, typer.Option(min=50, help="Genes to simulate.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulation and of the training.")] = 0,
    max_epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of passes over the cells.", show_default="by size of the data"),
    ] = None,
    debug: Debug = False,
) -> None:
    """Simulate cells whose truth is known, restore their counts, and say how much closer to the truth they came."""
    with one_line_errors(debug):
        from scdae import demo as job  # with JAX, so not for help

        say(job.run(folder, n_cells=cells, n_genes=genes, seed=seed, max_epochs=max_epochs)["text"])


def info(json_file: JsonFile = None, debug: Debug = False) -> None:
    """Print versions, the device that JAX uses, processor cores and free memory: what a report of a problem needs."""
    with one_line_errors(debug):
        check_report(json_file)
        rows = [("python", f"{platform.python_version()} on {platform.platform()}")]
        for name in ("scdae", "jax", "jaxlib", "flax", "optax", "anndata", "scanpy", "numpy", "scipy"):
            try:
                rows.append((name, version(name)))
            except PackageNotFoundError:
                rows.append((name, "not installed"))
        import jax  # slow, so not for help

        from scdae.core.runtime.platforms import check_platform  # with JAX

        check_platform()
        devices = [f"{device.platform}:{device.id} ({device.device_kind})" for device in jax.devices()]
        share = share_of_cores()
        threads = os.environ.get("OMP_NUM_THREADS", "not set")
        cores = f"{min(count for _, count in share)} usable of {os.cpu_count()}; OMP_NUM_THREADS {threads}"
        cores += "".join(f"; {name} {count}" for name, count in share[1:] if name != "OMP_NUM_THREADS")
        memory = [in_words(limit) for limit in memory_limits()]
        write_report(json_file, {**dict(rows), "devices": devices, "cores": cores, "memory": memory})
        if not to_stdout(json_file):
            here = (
                [("device", device) for device in devices] + [("cores", cores)] + [("memory", text) for text in memory]
            )
            for name, value in rows + here:
                say(f"{name:<8} {value}")
