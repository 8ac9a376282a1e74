"""`scdae chimeras`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import scdae
from scdae._log import get_logger
from scdae.cli.shared import options as opt
from scdae.cli.shared.common import one_line_errors, say, set_verbosity
from scdae.files.targets import check_target, write_text

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["chimeras"]

_TABLES, _FASTA = (".tsv", ".csv"), (".fasta", ".fa", ".fna")
_HELD_OUT = 0.2  # of the genera of the reference, where no calibration is given
_EPOCHS = 60
_FASTA_HELP = "no file"


def chimeras(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", callback=opt.home, help="Sequences, FASTA or FASTQ; 'size=' in headers counts."
        ),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUTPUT", callback=opt.home, help="Table of the sequences, .tsv or .csv.")
    ],
    reference: Annotated[
        Path | None,
        typer.Option(
            callback=opt.home,
            help="Verified sequences of the same gene, whole or cut: FASTA.",
            show_default="none: by abundance alone",
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            callback=opt.home,
            help="Verified sequences of genera that are not in the reference: FASTA.",
            show_default="a fifth of the genera of the reference",
        ),
    ] = None,
    abundance: Annotated[
        Path | None,
        typer.Option(
            callback=opt.home,
            help="Table of reads, by sequence and sample: of mothur, vsearch, QIIME 2 (TSV) or R.",
            show_default="'size=' in the headers of INPUT",
        ),
    ] = None,
    level: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="P-value up to which a sequence is called a chimera.")
    ] = 0.01,
    chimeras_file: Annotated[
        Path | None,
        typer.Option(
            "--chimeras",
            callback=opt.home,
            help="Write the chimeras to this FASTA file.",
            show_default=_FASTA_HELP,
            rich_help_panel="Output",
        ),
    ] = None,
    others_file: Annotated[
        Path | None,
        typer.Option(
            "--nonchimeras",
            callback=opt.home,
            help="Write all others to this FASTA file.",
            show_default=_FASTA_HELP,
            rich_help_panel="Output",
        ),
    ] = None,
    max_epochs: Annotated[
        int, typer.Option(min=1, help="Passes over the reference.", rich_help_panel="Model")
    ] = _EPOCHS,
    seed: opt.Seed = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.", rich_help_panel="Output")
    ] = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    debug: opt.Debug = False,
) -> None:
    """Find chimeras among the sequences of INPUT, such as amplicons of 16S rRNA, by a reference and by abundance."""
    set_verbosity(quiet=quiet, verbose=verbose)
    with one_line_errors(debug, about=str(source)):
        check_target(target, overwrite=overwrite, endings=_TABLES)
        for path in (chimeras_file, others_file):
            if path is not None:
                check_target(path, overwrite=overwrite, endings=_FASTA)
        texts = scdae.pp.read_fasta(source)
        if reference is None:
            table = _de_novo(texts, abundance)
        else:
            table = _by_reference(texts, reference, calibration, abundance, level, max_epochs, seed)
        found = table["is_chimera"].to_numpy(bool)
        for path, wanted in ((chimeras_file, found), (others_file, ~found)):
            if path is not None:
                some = (f">{name}\n{text}\n" for (name, text), one in zip(texts.items(), wanted, strict=True) if one)
                write_text(path, "".join(some), overwrite=overwrite)
        separator = "\t" if target.suffix == ".tsv" else ","
        write_text(target, table.to_csv(sep=separator, index_label="sequence"), overwrite=overwrite)
        if not quiet:
            say(f"{found.sum():,} of {len(found):,} sequences are chimeras; {target} has the scores.")


def _by_reference(
    texts: dict[str, str],
    reference: Path,
    calibration: Path | None,
    abundance: Path | None,
    level: float,
    max_epochs: int,
    seed: int,
) -> pd.DataFrame:
    """Compute the scores by the model of a reference that is cut to where the sequences lie."""
    import numpy as np

    known = scdae.pp.kmers(reference, region=texts, min_length=1)
    if calibration is None:
        known, normal = _parted(known, seed)
    else:
        normal = scdae.pp.kmers(calibration, reference=known, min_length=1)
    seen = known.layers["observed"].any(axis=1)
    if not seen.all():
        known = known[seen].copy()
    if level < 1 / (normal.n_obs + 1):
        get_logger().warning(
            f"scdae: --level {level:g} needs {int(np.ceil(1 / level)) - 1 if level else 0:,} normal sequences or more, and the calibration has "
            f"{normal.n_obs:,}: unless the reference joins them, nothing can be called by its score. Give more with --calibration."
        )
    width = int(np.clip(known.n_obs // 8, 8, 128))
    model = scdae.DAE(
        n_latent=width,
        n_components=2 * width,
        n_hidden=2 * width,
        likelihood="poisson",
        max_epochs=max_epochs,
        seed=seed,
    )
    model.fit(known, mask="observed")
    query = scdae.pp.kmers(texts, reference=known, min_length=1)
    scdae.tl.score_sequences(query, model, known, normal, abundance=_reads(query.obs, abundance), seed=seed)
    table = query.obs.filter(regex="^guard_").rename(columns=lambda name: name.removeprefix("guard_"))
    called = (table["chimera_pvalue"] <= level).to_numpy()
    if "denovo" in table:
        called |= table["denovo"].to_numpy(bool)
    table.insert(0, "is_chimera", called)
    return table


def _de_novo(texts: dict[str, str], abundance: Path | None) -> pd.DataFrame:
    """Exact chimeras of more abundant sequences."""
    import numpy as np
    import pandas as pd

    from scdae.sequences.abundances import find_bimeras, read_abundance, sizes_of
    from scdae.sequences.kmers import read_sequences

    names, descriptions, sequences = read_sequences(texts)
    obs = pd.DataFrame(sizes_of(names, descriptions), index=names)
    reads = _reads(obs, abundance)
    if reads is None:
        raise ValueError(
            "no headers with 'size=' and no reads: pass --abundance TABLE to find chimeras of more abundant sequences, or "
            "--reference FASTA to find them by a reference."
        )
    found = find_bimeras(sequences, read_abundance(reads, obs.index, obs))
    parents = {
        f"denovo_{side}": np.where(parent >= 0, np.asarray(names)[parent], "")
        for side, parent in (("left", found.left), ("right", found.right))
    }
    return pd.DataFrame({"is_chimera": found.chimeric, **parents}, index=names)


def _reads(obs: pd.DataFrame, abundance: Path | None) -> Any:
    """A table, the name of the column with the sizes in the headers, or nothing."""
    from scdae.sequences.abundances import read_table

    if abundance is not None:
        return read_table(abundance)
    return "size" if "size" in obs else None


def _parted(known: AnnData, seed: int) -> tuple[AnnData, AnnData]:
    """Return the reference, and a fifth of its genera to calibrate with."""
    import numpy as np

    genus = known.obs["genus"].to_numpy(str)
    alone = np.char.add("?", known.obs_names.to_numpy(str))
    _, number = np.unique(np.where(genus == "", alone, genus), return_inverse=True)
    n_genera = int(number.max()) + 1
    if n_genera < 5:
        raise ValueError(
            f"--reference has {n_genera} genera, too few to hold some out. Give more, or other sequences with --calibration."
        )
    held = np.random.default_rng(seed).permutation(n_genera)[: max(1, round(_HELD_OUT * n_genera))]
    normal = np.isin(number, held)
    get_logger().info(
        f"scdae: {int(normal.sum()):,} of {known.n_obs:,} sequences of the reference, {len(held):,} of its {n_genera:,} genera, are held "
        "out to calibrate with."
    )
    return known[~normal].copy(), known[normal].copy()
