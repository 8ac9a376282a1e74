"""Genes as counts of words: sequences of one family become an AnnData object with a variable for each window and word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scdae._log import get_logger
from scdae.arguments.numbers import whole_number
from scdae.arguments.objects import spelled
from scdae.core.chimeras.kmers import Frame, Placed, find_frame, letters, place, words
from scdae.sequences.abundances import sizes_of
from scdae.sequences.fasta import as_header, read_fasta
from scdae.sequences.frames import RECORD, fingerprint, read_frame, record_of
from scdae.sequences.taxonomy import genus_of, is_lineage

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["kmers", "read_fasta", "read_sequences"]

_KNOWN = set("ACGTUNRYSWKMBDHV")
_REACHED = 0.7  # of a window, for it to count as observed
_COUNTED = 0.35  # of its words, which are fewer where single letters are unknown
_PROTEIN = set("EFILPQZX*")  # letters of amino acids that are not nucleotides
_LARGEST = 6


@spelled
def kmers(
    sequences: str | PathLike[str] | Mapping[str, str] | Iterable[Any],
    *,
    k: int = 4,
    n_windows: int = 16,
    reference: AnnData | None = None,
    region: str | PathLike[str] | Mapping[str, str] | Iterable[Any] | None = None,
    min_length: int = 200,
) -> AnnData:
    """Count words of `k` letters in windows along genes of one family, such as 16S rRNA.

    Genes begin and end at different places, and differ by insertions. So they are laid along one another first: words
    of ten letters that most of them have once serve as anchors, and windows are cut in the coordinates that these give.
    A window that a sequence does not reach over counts as not observed. Sequences of the other strand are turned.

    Parameters
    ----------
    sequences
        FASTA or FASTQ file, packed with gzip or not (scikit-bio reads FASTA: ``pip install 'scdae[seq]'``); or sequences
        by their header line, ``{"id description": "ACGT..."}``; or a list of them, which are then called
        ``"sequence_1"`` and so on; or scikit-bio's own sequences. U is read as T, and gaps of alignments are taken out.
    k
        Letters of a word, 1 to 6.
    n_windows
        Windows along the gene.
    reference
        What this function made of other sequences: its anchors, windows and words are taken over. Queries need it,
        since only then do their variables mean the same.
    region
        Other sequences of the family, in the same forms, that are parts of genes, such as amplicons: windows are cut to
        where most of them lie, and `sequences` may be whole genes. Amplicons are judged well only by a reference that
        was made so. Not with `reference`, which has its region already.
    min_length
        Fewest letters of a sequence.

    Returns
    -------
    anndata.AnnData
        ``X`` : float32 CSR (n_sequences, n_windows * 4**k), how often each word begins in each window.

        ``layers["observed"]`` : bool, for ``mask=`` of the model.

        ``obs`` : by identifier, ``description``, ``genus`` (as lineages of SILVA, RDP, GTDB, Greengenes, UNITE or
        sintax say it, or names of organisms as in NCBI; empty where none is known), ``length``, ``n_anchors`` (found in
        it; 0: it was laid over all windows as it is, or over none if it is much shorter or longer), ``reversed``, ``n_ambiguous``
        (letters other than A, C, G and T, which no word holds), ``sequence`` (its letters, as text); where header lines
        have ``size=``, ``size`` (reads; NaN for those that have none).

        ``var`` : ``window`` (from 0) and ``kmer``.

        ``obsm["window_starts"]`` : int32 (n_sequences, n_windows + 1), letter at which each window begins, and the last
        ends; ``letters`` : int8 (n_sequences, n_columns), the sequences in columns one coordinate apart, 0 to 3 for A, C,
        G and T, 4 for a gap, -1 where nothing is known. Without anchors there are no columns.

        ``uns["kmers"]`` : arguments, anchors and edges of the windows, ``frame`` (a fingerprint of these), and how many
        sequences are repeated.

    Raises
    ------
    ValueError
        There are no sequences, identifiers are repeated, letters are not nucleotides, sequences are too short, the file
        is damaged or no FASTA, or an argument is out of its range.
    TypeError
        `sequences` or `reference` is something else.
    ImportError
        A file is given and scikit-bio is not installed.

    Examples
    --------
    >>> import scdae
    >>> sequences = scdae.datasets.simulate_16s(n_genera=12, seed=0)
    >>> adata = scdae.pp.kmers(sequences, k=3, n_windows=8)
    >>> adata.shape, adata.var["kmer"].iloc[0]
    ((24, 512), 'AAA')
    """
    if reference is not None:
        record = record_of(reference, "reference")
        k, n_windows = int(record["k"]), int(record["n_windows"])
    k, n_windows = whole_number("k", k, 1, _LARGEST), whole_number("n_windows", n_windows, 1, 1000)
    min_length = whole_number("min_length", min_length, 1)
    if reference is not None and region is not None:
        raise ValueError(
            "region: the reference has its windows already. Make the reference with region=, and leave it out here."
        )
    names, descriptions, texts = read_sequences(sequences)
    where = fspath(sequences) if isinstance(sequences, str | PathLike) else "sequences"
    _check(names, texts, min_length, where)
    numbered = [letters(text) for text in texts]
    if reference is None:
        frame = find_frame(
            numbered, n_windows, None if region is None else [letters(text) for text in read_sequences(region)[2]]
        )
    else:
        frame = read_frame(record)
    placed = [place(one, frame) for one in numbered]
    counts, observed, starts = _count(placed, frame, k)
    obs = pd.DataFrame(
        {
            "description": descriptions,
            "genus": [genus_of(f"{name} {text}") for name, text in zip(names, descriptions, strict=True)],
            "length": [len(one) for one in numbered],
            "n_anchors": [one.n_anchors for one in placed],
            "reversed": [one.reversed for one in placed],
            "n_ambiguous": [int((one < 0).sum()) for one in numbered],
        },
        index=names,
    )
    obs["sequence"] = texts
    for name, values in sizes_of(names, descriptions).items():
        obs[name] = values
    repeated = len(texts) - len(set(texts))
    adata = AnnData(counts, obs=obs, var=_variables(k, n_windows))
    adata.layers["observed"] = np.repeat(observed, 4**k, axis=1)
    adata.obsm["window_starts"] = starts
    columns = frame.columns
    if len(columns):
        adata.obsm["letters"] = np.stack([one.row(columns) for one in placed])
    adata.uns[RECORD] = {
        "written_by": "scdae.pp.kmers",
        "k": k,
        "n_windows": n_windows,
        "min_length": min_length,
        "n_repeated": repeated,
        "anchors": frame.anchors,
        "places": frame.places,
        "edges": frame.edges,
        "frame": fingerprint(k, frame),
    }
    _tell(obs, observed, repeated, frame)
    return adata


def _variables(k: int, n_windows: int) -> pd.DataFrame:
    all_words = [""]
    for _ in range(k):
        all_words = [word + letter for word in all_words for letter in "ACGT"]
    window = np.repeat(np.arange(n_windows), len(all_words))
    kmer = all_words * n_windows
    return pd.DataFrame(
        {"window": window, "kmer": kmer}, index=[f"{i}_{word}" for i, word in zip(window, kmer, strict=True)]
    )


def _count(placed: list[Placed], frame: Frame, k: int) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """Counts, which windows were observed, and the letters at which windows begin."""
    n_words, shape = 4**k, (len(placed), frame.n_windows)
    observed, starts = np.zeros(shape, bool), np.zeros((shape[0], shape[1] + 1), np.int32)
    rows, columns = [], []
    for i, one in enumerate(placed):
        word = words(one.letters, k)
        observed[i] = one.coverage(frame.edges) >= _REACHED
        if (one.letters < 0).any():
            observed[i] &= one.coverage(frame.edges, word >= 0) >= _COUNTED
        starts[i] = np.searchsorted(one.places, frame.edges)
        window = np.searchsorted(frame.edges, one.places[: len(word)], side="right") - 1
        inside = (window >= 0) & (window < frame.n_windows) & (word >= 0)
        inside[inside] = observed[i, window[inside]]
        columns.append(window[inside] * n_words + word[inside])
        rows.append(np.full(len(columns[-1]), i))
    at = np.concatenate(rows), np.concatenate(columns)
    counts = sp.csr_matrix((np.ones(len(at[0]), np.float32), at), shape=(shape[0], shape[1] * n_words))
    counts.sum_duplicates()
    return counts, observed, starts


def read_sequences(sequences: Any) -> tuple[list[str], list[str], list[str]]:
    """Identifiers, descriptions and letters in capitals."""
    wanted = "Give a file, a mapping of header lines to sequences, a list of texts, or sequences of scikit-bio."
    if isinstance(sequences, str | PathLike):
        path = sequences
        sequences = read_fasta(path)
        if not sequences:
            raise ValueError(f"{fspath(path)} holds no sequences: there are none in it.")
    if isinstance(sequences, pd.Series):
        sequences = dict(zip(sequences.index, sequences, strict=True)) if sequences.index.is_unique else sequences
    if isinstance(sequences, Mapping):
        named = [(*_name(str(header)), _letters(text, header)) for header, text in sequences.items()]
    else:
        if (
            isinstance(sequences, bytes | pd.DataFrame)
            or not isinstance(sequences, Iterable)
            or hasattr(sequences, "obs")
        ):
            raise TypeError(f"sequences is a {type(sequences).__name__}. {wanted}")
        named = []
        for i, one in enumerate(sequences):
            if isinstance(one, str):
                named.append((f"sequence_{i + 1}", "", _letters(one, i)))
                continue
            about = getattr(one, "metadata", None)
            if about is None:
                raise ValueError(f"sequences: item {i} is a {type(one).__name__}. {wanted}")
            named.append((str(about.get("id", i)), str(about.get("description", "")), str(one)))
    if not named:
        raise ValueError("sequences: there are none. Give at least one.")
    names, descriptions, texts = (list(part) for part in zip(*named, strict=True))
    gapped = sum("-" in text or "." in text for text in texts)
    if gapped:
        get_logger().info(f"scdae: gaps ('-' and '.') were taken out of {gapped:,} of {len(texts):,} sequences.")
        texts = [text.replace("-", "").replace(".", "") for text in texts]
    return names, descriptions, [text.upper().replace("U", "T") for text in texts]


def _name(header: str) -> tuple[str, str]:
    """Identifier and description; a lineage alone is the identifier."""
    header = as_header(header)
    if is_lineage(header):
        return header, ""
    name, *rest = header.split(None, 1) or [""]
    return name, rest[0] if rest else ""


def _letters(text: Any, header: Any) -> str:
    if isinstance(text, str) or hasattr(text, "metadata"):
        return "".join(str(text).split())
    raise TypeError(f"sequences: {header!r} is a {type(text).__name__}. Give its letters as text.")


def _check(names: list[str], texts: list[str], min_length: int, where: str) -> None:
    """Name what is wrong with the sequences, how many there are, the first of them, and the file if there is one."""
    unnamed = names.count("")
    if unnamed:
        raise ValueError(f"{where}: {unnamed:,} of {len(names):,} have no identifier. Give each sequence its own.")
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise ValueError(
            f"{where}: {len(twice):,} identifiers are repeated, the first being {twice[0]!r}. Give each sequence its own."
        )
    short = [name for name, text in zip(names, texts, strict=True) if len(text) < min_length]
    if short:
        raise ValueError(
            f"{where}: {len(short):,} of {len(texts):,} have fewer than min_length={min_length} letters, the first being "
            f"{short[0]!r}. Leave them out, or lower min_length."
        )
    for name, text in zip(names, texts, strict=True):
        unknown = set(text) - _KNOWN
        if unknown:
            n_bad = sum(bool(set(other) - _KNOWN) for other in texts)
            fix = "Only nucleotides and their ambiguity codes are read."
            if len(unknown & _PROTEIN) > 2:
                fix += " These look like proteins: give the genes."
            raise ValueError(
                f"{where}: {n_bad:,} of {len(texts):,} hold letters that are not nucleotides, the first being {name!r} with "
                f"{', '.join(map(repr, sorted(unknown)))}. {fix}"
            )


def _tell(obs: pd.DataFrame, observed: np.ndarray, repeated: int, frame: Frame) -> None:
    log = get_logger()
    log.info(f"scdae: {len(obs):,} sequences, {len(frame.anchors):,} anchors.")
    if repeated:
        log.info(f"scdae: {repeated:,} sequences are copies of others.")
    turned = int(obs["reversed"].sum())
    if turned:
        log.info(f"scdae: {turned:,} of {len(obs):,} sequences lie on the other strand and were turned.")
    if not len(frame.anchors):
        log.warning(
            "scdae: the sequences share no anchors, so windows are cut by relative position. Are they of one gene?"
        )
    elif (lost := int(((obs["n_anchors"] == 0) & observed.any(axis=1)).sum())) > 0:
        log.info(f"scdae: {lost:,} sequences have too few anchors and were laid over all windows as they are.")
    ambiguous = int((obs["n_ambiguous"] > 0).sum())
    if ambiguous:
        log.info(
            f"scdae: {ambiguous:,} sequences hold letters other than A, C, G and T; words with them are not counted."
        )
    unseen = obs.index[~observed.any(axis=1)]
    if len(unseen):
        log.warning(
            f"scdae: {len(unseen):,} of {len(obs):,} sequences cover no window, the first being {unseen[0]!r}: they are much "
            "shorter than the windows and have too few anchors, or hold hardly a letter but N. Nothing of them was observed."
        )
    unnamed = int((obs["genus"] == "").sum())
    if unnamed:
        log.info(
            f"scdae: no genus is known of {unnamed:,} of {len(obs):,} sequences: obs['genus'] is empty there. Put labels of your "
            "own into a column of obs if you have them."
        )
