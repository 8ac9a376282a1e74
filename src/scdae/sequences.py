"""Genes as counts of words: sequences of one family become an AnnData object with a variable for each window and word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scdae._log import get_logger
from scdae.core.kmers import Frame, Placed, find_frame, letters, place, words

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["kmers", "read_fasta"]

_RECORD = "kmers"
_KNOWN = set("ACGTUNRYSWKMBDHV")
_REACHED = 0.7  # of a window, for it to count as observed
_LARGEST = 6


def kmers(
    sequences: str | PathLike[str] | Mapping[str, str] | Iterable[Any],
    *,
    k: int = 4,
    n_windows: int = 16,
    reference: AnnData | None = None,
    min_length: int = 200,
) -> AnnData:
    """Count words of `k` letters in windows along genes of one family, such as 16S rRNA.

    Genes begin and end at different places, and differ by insertions. So they are laid along one another first: words of ten
    letters that most of them have once serve as anchors, and windows are cut in the coordinates that these give. A window that
    a sequence does not reach over counts as not observed. Sequences of the other strand are turned.

    Parameters
    ----------
    sequences
        FASTA file, gzipped or not (scikit-bio reads it: ``pip install 'scdae[seq]'``); or sequences by their header line,
        ``{"id description": "ACGT..."}``; or scikit-bio's own sequences. U is read as T.
    k
        Letters of a word, 1 to 6.
    n_windows
        Windows along the gene.
    reference
        What this function made of other sequences: its anchors, windows and words are taken over. Queries need it, since only
        then do their variables mean the same.
    min_length
        Fewest letters of a sequence.

    Returns
    -------
    anndata.AnnData
        ``X`` : float32 CSR (n_sequences, n_windows * 4**k), how often each word begins in each window.

        ``layers["observed"]`` : bool, for ``mask=`` of the model.

        ``obs`` : by identifier, ``description``, ``genus`` (its first word), ``length``, ``n_anchors`` (found in it; 0: it was
        laid over all windows as it is), ``reversed``, ``n_ambiguous`` (letters other than A, C, G and T, which no word holds).

        ``var`` : ``window`` (from 0) and ``kmer``.

        ``obsm["window_starts"]`` : int32 (n_sequences, n_windows + 1), letter at which each window begins, and the last ends.

        ``uns["kmers"]`` : arguments, anchors and edges of the windows, and how many sequences are repeated.

    Raises
    ------
    ValueError
        There are no sequences, identifiers are repeated, letters are no nucleotides, sequences are too short, or an argument is
        out of its range.
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
    from anndata import AnnData

    if reference is not None:
        record = _record(reference)
        k, n_windows = int(record["k"]), int(record["n_windows"])
    for name, value, most in (("k", k, _LARGEST), ("n_windows", n_windows, 1000)):
        if not 1 <= value <= most:
            raise ValueError(f"{name}={value!r}: use a whole number from 1 to {most}.")
    names, descriptions, texts = _read(sequences)
    _check(names, texts, min_length)
    numbered = [letters(text) for text in texts]
    frame = find_frame(numbered, n_windows) if reference is None else _frame(record)
    placed = [place(one, frame) for one in numbered]
    counts, observed, starts = _count(placed, frame, k)
    obs = pd.DataFrame(
        {
            "description": descriptions,
            "genus": [description.split(" ")[0] for description in descriptions],
            "length": [len(one) for one in numbered],
            "n_anchors": [one.n_anchors for one in placed],
            "reversed": [one.reversed for one in placed],
            "n_ambiguous": [int((one < 0).sum()) for one in numbered],
        },
        index=names,
    )
    repeated = len(texts) - len(set(texts))
    adata = AnnData(counts, obs=obs, var=_variables(k, n_windows))
    adata.layers["observed"] = np.repeat(observed, 4**k, axis=1)
    adata.obsm["window_starts"] = starts
    adata.uns[_RECORD] = {
        "written_by": "scdae.pp.kmers",
        "k": k,
        "n_windows": n_windows,
        "min_length": min_length,
        "n_repeated": repeated,
        "anchors": frame.anchors,
        "places": frame.places,
        "edges": frame.edges,
    }
    _tell(obs, repeated, frame)
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
        observed[i] = one.coverage(frame.edges) >= _REACHED
        starts[i] = np.searchsorted(one.places, frame.edges)
        word = words(one.letters, k)
        window = np.searchsorted(frame.edges, one.places[: len(word)], side="right") - 1
        inside = (window >= 0) & (window < frame.n_windows) & (word >= 0)
        inside[inside] = observed[i, window[inside]]
        columns.append(window[inside] * n_words + word[inside])
        rows.append(np.full(len(columns[-1]), i))
    at = np.concatenate(rows), np.concatenate(columns)
    counts = sp.csr_matrix((np.ones(len(at[0]), np.float32), at), shape=(shape[0], shape[1] * n_words))
    counts.sum_duplicates()
    return counts, observed, starts


def _read(sequences: Any) -> tuple[list[str], list[str], list[str]]:
    """Identifiers, descriptions and letters in capitals."""
    if isinstance(sequences, str | PathLike):
        sequences = read_fasta(sequences)
    if isinstance(sequences, Mapping):
        headers = [str(header).strip().partition(" ") for header in sequences]
        found = [
            (name, rest.strip(), str(text)) for (name, _, rest), text in zip(headers, sequences.values(), strict=True)
        ]
    else:
        found = []
        for i, one in enumerate(sequences):
            about = getattr(one, "metadata", None)
            if about is None:
                raise ValueError(
                    f"sequences: item {i} is a {type(one).__name__}. Give a file, a mapping of header lines to sequences, "
                    "or sequences of scikit-bio."
                )
            found.append((str(about.get("id", i)), str(about.get("description", "")), str(one)))
    if not found:
        raise ValueError("sequences: there are none. Give at least one.")
    names, descriptions, texts = (list(part) for part in zip(*found, strict=True))
    return names, descriptions, [text.upper().replace("U", "T") for text in texts]


def read_fasta(path: str | PathLike[str]) -> dict[str, str]:
    """Read sequences by their header line.

    Parameters
    ----------
    path
        FASTA file, gzipped or not.

    Returns
    -------
    dict
        ``{"id description": "ACGT..."}``, as :func:`kmers` takes it.

    Raises
    ------
    ImportError
        scikit-bio is not installed.
    ValueError
        It is no FASTA, or header lines are repeated.

    Examples
    --------
    >>> import scdae
    >>> sequences = scdae.pp.read_fasta("genes.fasta.gz")  # doctest: +SKIP
    """
    skbio = _scikit_bio()
    path = Path(fspath(path))
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        read = list(skbio.io.read(str(path), format="fasta", verify=False, constructor=skbio.Sequence))
    except (skbio.io.FASTAFormatError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not read as FASTA: {error}") from error
    found = {f"{one.metadata['id']} {one.metadata['description']}".strip(): str(one) for one in read}
    if len(found) < len(read):
        raise ValueError(f"{path}: {len(read) - len(found):,} header lines are repeated. Give each sequence its own.")
    return found


def _scikit_bio() -> Any:
    """scikit-bio. Importing it (0.7.4) turns JAX to double precision for everybody, so the setting is put back."""
    import jax

    before = jax.config.read("jax_enable_x64")
    try:
        import skbio
    except ImportError as error:
        raise ImportError(
            "Reading FASTA needs scikit-bio, which is not installed. Run: pip install 'scdae[seq]'"
        ) from error
    finally:
        jax.config.update("jax_enable_x64", before)
    return skbio


def _check(names: list[str], texts: list[str], min_length: int) -> None:
    """Name what is wrong with the sequences, how many there are and the first of them."""
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise ValueError(
            f"sequences: {len(twice):,} identifiers are repeated, the first being {twice[0]!r}. Give each sequence its own."
        )
    short = [name for name, text in zip(names, texts, strict=True) if len(text) < min_length]
    if short:
        raise ValueError(
            f"sequences: {len(short):,} of {len(texts):,} have fewer than min_length={min_length} letters, the first being "
            f"{short[0]!r}. Leave them out, or lower min_length."
        )
    for name, text in zip(names, texts, strict=True):
        unknown = set(text) - _KNOWN
        if unknown:
            n_bad = sum(bool(set(other) - _KNOWN) for other in texts)
            fix = (
                "Take the gaps out."
                if unknown <= {"-", "."}
                else "Only nucleotides and their ambiguity codes are read."
            )
            raise ValueError(
                f"sequences: {n_bad:,} of {len(texts):,} hold letters that are no nucleotides, the first being {name!r} with "
                f"{', '.join(map(repr, sorted(unknown)))}. {fix}"
            )


def _record(reference: AnnData) -> Mapping[str, Any]:
    record = reference.uns.get(_RECORD)
    if not isinstance(record, Mapping) or record.get("written_by") != "scdae.pp.kmers":
        raise ValueError("reference was not made by scdae.pp.kmers: its uns['kmers'] is missing.")
    return record


def _frame(record: Mapping[str, Any]) -> Frame:
    anchors, places, edges = (np.asarray(record[name]) for name in ("anchors", "places", "edges"))
    return Frame(anchors.astype(np.int64), places.astype(np.float64), edges.astype(np.float64))


def _tell(obs: pd.DataFrame, repeated: int, frame: Frame) -> None:
    log = get_logger()
    log.info(f"scdae: {len(obs):,} sequences, {len(frame.anchors):,} anchors.")
    if repeated:
        log.info(f"scdae: {repeated:,} sequences are copies of others.")
    if not len(frame.anchors):
        log.warning(
            "scdae: the sequences share no anchors, so windows are cut by relative position. Are they of one gene?"
        )
    elif (lost := int((obs["n_anchors"] == 0).sum())) > 0:
        log.info(f"scdae: {lost:,} sequences have too few anchors and were laid over all windows as they are.")
    ambiguous = int((obs["n_ambiguous"] > 0).sum())
    if ambiguous:
        log.info(
            f"scdae: {ambiguous:,} sequences hold letters other than A, C, G and T; words with them are not counted."
        )
