"""How often sequences were found, and which of them two more abundant ones of the same sample make up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp

__all__ = ["Bimeras", "find_bimeras", "read_abundance", "read_table", "sizes_of"]

_SIZE = re.compile(r"(?:^|;)size=(\d+)(?:;|$|\s)")
_SAMPLES = (2.0, 8)  # times as abundant as a chimera, and reads, that a parent has at least in one sample
_EACH = (1.5, 2)  # the same in each of several samples, which decide together
_SHARE = 0.9  # of the samples that have it, in which it has to be a chimera
_IGNORED = 1  # samples in which it may be none


class Bimeras(NamedTuple):
    """Of each sequence."""

    chimeric: np.ndarray  # bool
    left: np.ndarray  # int64: the parent of its beginning; -1 for none
    right: np.ndarray
    rare: np.ndarray  # bool: in some sample two others are abundant enough to be its parents


def sizes_of(names: list[str], descriptions: list[str]) -> dict[str, list[float]]:
    """Reads that headers tell by ``size=``: ``{"size": [...]}``, NaN where there are none; nothing without any.

    Examples
    --------
    >>> sizes_of(["a;size=12", "b"], ["", ""])
    {'size': [12.0, nan]}
    """
    found = [_SIZE.search(f"{name} {text}") for name, text in zip(names, descriptions, strict=True)]
    return {"size": [float(size[1]) if size else np.nan for size in found]} if any(found) else {}


def read_abundance(abundance: Any, names: pd.Index, obs: pd.DataFrame) -> np.ndarray:
    """Reads of each sequence: float64 (n_samples, n_obs).

    Parameters
    ----------
    abundance
        Column of `obs`; a series or mapping by name; numbers in the order of the sequences; or a table, samples in rows
        and sequences in columns as DADA2 has it, or the other way round, a data frame by name or an array.
    names
        Of the sequences.
    obs
        Of the sequences.

    Raises
    ------
    ValueError
        It does not fit the sequences, or is not finite or negative somewhere.
    """
    if isinstance(abundance, str):
        if abundance not in obs:
            raise ValueError(f"abundance={abundance!r} is not a column of adata.obs.")
        abundance = obs[abundance]
    if isinstance(abundance, Mapping):
        abundance = pd.Series(abundance)
    if isinstance(abundance, pd.Series):
        abundance = abundance.to_frame().T
    if isinstance(abundance, pd.DataFrame):
        if not names.isin(abundance.columns).all():
            if names.isin(abundance.index).all():
                abundance = abundance.T
            else:
                lacking = names[~(names.isin(abundance.columns) | names.isin(abundance.index))]
                first = f", the first being {lacking[0]!r}" if len(lacking) else ""
                raise ValueError(
                    f"abundance: {len(lacking):,} of {len(names):,} sequences are not in it{first}. Give reads by the names in "
                    "adata.obs_names."
                )
        abundance = abundance.loc[:, names]
    values = np.atleast_2d(np.asarray(abundance.toarray() if sp.issparse(abundance) else abundance, np.float64))
    if values.ndim == 2 and values.shape[1] != len(names) and values.shape[0] == len(names):
        values = values.T
    if values.ndim != 2 or values.shape[1] != len(names):
        raise ValueError(
            f"abundance has the shape {values.shape}, and there are {len(names):,} sequences. Give one number for each, or "
            "samples in rows and sequences in columns."
        )
    bad = ~np.isfinite(values) | (values < 0)
    if bad.any():
        first = np.flatnonzero(bad.any(axis=0))[0]
        raise ValueError(
            f"abundance: {int(bad.any(axis=0).sum()):,} of {len(names):,} sequences have a number that is negative or not finite, the "
            f"first being {names[first]!r}. Give numbers of reads."
        )
    return values


def read_table(path: Any) -> pd.DataFrame:
    """Counts by sample and sequence from a text file, tabs or commas between columns.

    A table of mothur (``Representative_Sequence``, ``total``, then samples), one of vsearch or QIIME (``#OTU ID``), or
    one that R wrote.
    """
    with open(path, encoding="utf-8") as stream:
        skip, line = 0, stream.readline()
        while line.startswith(("# Constructed", "#Compressed", "#1,")):
            skip, line = skip + 1, stream.readline()
    separator = "\t" if "\t" in line else ","
    table = pd.read_csv(path, sep=separator, index_col=0, skiprows=skip)
    table.index = table.index.astype(str)
    if "total" in table.columns and table.shape[1] > 1:
        table = table.drop(columns="total")
    table = table.select_dtypes("number")
    if not table.size:
        raise ValueError(
            f"{path} holds no numbers. Give a table of sequences by samples, with names in the first column."
        )
    return table


def find_bimeras(texts: list[str], reads: np.ndarray) -> Bimeras:
    """Find sequences that are exactly the beginning of one more abundant sequence and the end of another.

    Parameters
    ----------
    texts
        Sequences.
    reads
        float64 (n_samples, n): reads of each in each sample.

    Notes
    -----
    In one sample a parent has at least twice the reads and at least eight, as in ``isBimeraDenovo`` of DADA2. In several,
    each is judged by itself, a parent having at least 1.5 times the reads and two, and a sequence is a chimera if it is
    one in nine of ten samples that have it, one sample more being let off, as in ``isBimeraDenovoTable``. `rare` says
    that in some sample two sequences are abundant enough to be the parents.

    Examples
    --------
    >>> import numpy as np
    >>> found = find_bimeras(["AAAAAAAA", "CCCCCCCC", "AAAACCCC"], np.array([[90.0, 80.0, 9.0]]))
    >>> found.chimeric.tolist(), found.left.tolist(), found.right.tolist()
    ([False, False, True], [-1, -1, 0], [-1, -1, 1])
    """
    n_texts = len(texts)
    found = Bimeras(np.zeros(n_texts, bool), np.full(n_texts, -1), np.full(n_texts, -1), np.zeros(n_texts, bool))
    fold, least = _SAMPLES if len(reads) == 1 else _EACH
    called, had = np.zeros(len(texts), int), (reads > 0).sum(axis=0)
    forward = [np.frombuffer(text.encode("latin-1"), np.uint8) for text in texts]
    longest = max(map(len, texts), default=0)
    starts, ends = np.zeros((2, len(texts), longest), np.uint8)
    for i, one in enumerate(forward):
        starts[i, : len(one)], ends[i, : len(one)] = one, one[::-1]
    for i, one in enumerate(forward):
        n = len(one)
        able = (reads >= np.maximum(fold * reads[:, [i]], least)) & (reads[:, [i]] > 0)
        able[:, i] = False
        some = np.flatnonzero(able.any(axis=0))
        found.rare[i] = (able.sum(axis=1) >= 2).any()
        if len(some) < 2:
            continue
        lengths = np.array([len(forward[j]) for j in some])
        left = np.minimum(_common(starts[some, :n], one), lengths)
        right = np.minimum(_common(ends[some, :n], one[::-1]), lengths)
        for sample in np.flatnonzero(able.any(axis=1)):
            here = able[sample, some]
            whole = here & (left >= n) | here & (right >= n)  # the sequence is a part of another one, and no chimera
            here &= ~whole
            if here.sum() < 2 or whole.any():
                continue
            a, b = np.where(here, left, -1).argmax(), np.where(here, right, -1).argmax()
            if a != b and left[a] + right[b] >= n and min(left[a], right[b]) > 0:
                called[i] += 1
                found.left[i], found.right[i] = some[a], some[b]
    chimeric = called >= (np.maximum((had - _IGNORED) * _SHARE, 1) if len(reads) > 1 else 1)
    found.left[~chimeric] = found.right[~chimeric] = -1
    return found._replace(chimeric=chimeric)


def _common(others: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Letters at the beginning that each of these has in common with one: int (n,)."""
    differ = others != one[None, : others.shape[1]]
    return np.where(differ.any(axis=1), differ.argmax(axis=1), others.shape[1])
