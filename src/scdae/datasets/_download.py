"""Real data sets of other people, fetched once, checked, and kept in a folder of the user's."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData, read_h5ad
from anndata.utils import make_index_unique

from scdae._log import get_logger, is_watched

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["paul15", "pbmc3k", "pbmc5k_citeseq"]

_SCVERSE = "https://exampledata.scverse.org/scanpy"
_10X = "https://cf.10xgenomics.com/samples/cell-exp"
# what the clusters of Paul et al. are called in their paper, in the order of their numbers
_PAUL15 = "Ery Ery Ery Ery Ery Ery MEP Mk GMP GMP DC Baso Baso Mo Mo Neu Neu Eos Lymph".split()


class _File(NamedTuple):
    name: str
    megabytes: float
    known_hash: str
    urls: tuple[str, ...]  # tried in turn


# The hashes are those that scanpy's and mudatasets' own registries give.
_FILES = {
    "pbmc3k": _File(
        "pbmc3k_raw.h5ad",
        5.9,
        "sha256:89a96f1beaa2dd83a687666d3f19a4513ac27a2a2d12581fcd77afed7ea653a1",
        (f"{_SCVERSE}/pbmc3k_raw.h5ad", "https://falexwolf.de/data/pbmc3k_raw.h5ad"),
    ),
    "paul15": _File(
        "paul15.h5",
        10.3,
        "sha256:6161984f758dd464992edc23f1a8ab89b2081600130c6aa93a1ab12b3ada5bfb",
        (f"{_SCVERSE}/paul15.h5", "https://falexwolf.de/data/paul15.h5"),
    ),
    "pbmc5k_citeseq": _File(
        "5k_pbmc_protein_v3_filtered_feature_bc_matrix.h5",
        17.1,
        "md5:3366a47283177fe9af143d5819fad61f",
        (f"{_10X}/3.0.2/5k_pbmc_protein_v3/5k_pbmc_protein_v3_filtered_feature_bc_matrix.h5",),
    ),
}


def pbmc3k(*, path: str | PathLike[str] | None = None) -> AnnData:
    """Blood cells of a healthy donor, 10x Genomics chemistry v1: the data set that most tutorials begin with.

    Source: :cite:t:`Zheng2017`.

    Parameters
    ----------
    path
        Folder that keeps the file (5.9 MB). By default the operating system's place for caches, in a folder ``scdae``.

    Returns
    -------
    anndata.AnnData
        2,700 cells and 32,738 genes, many of them without a count. ``X`` : CSR float32, the counts. ``var`` :
        ``gene_ids``, Ensembl's.

    Raises
    ------
    ConnectionError
        When the file is not there yet and cannot be had; the message says what to do without a network.
    ImportError
        When pooch is not installed (extra ``datasets``).

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.pbmc3k()  # doctest: +SKIP
    """
    with warnings.catch_warnings():  # the file is old, and anndata says so
        warnings.simplefilter("ignore")
        adata = read_h5ad(_fetch("pbmc3k", path))
        adata.var_names_make_unique()
    adata.X = sp.csr_matrix(adata.X, dtype=np.float32)
    return adata


def paul15(*, path: str | PathLike[str] | None = None) -> AnnData:
    """Myeloid progenitors of mice on their way to blood cells, MARS-seq: branching trajectories.

    Source: :cite:t:`Paul2015`.

    Parameters
    ----------
    path
        Folder that keeps the file (10.3 MB), as in :func:`pbmc3k`.

    Returns
    -------
    anndata.AnnData
        2,730 cells. ``X`` : CSR float32, the counts. ``obs`` : ``paul15_clusters`` (category), numbers and names of the
        clusters as published. ``var`` : ``informative`` (bool), the genes on which these rest;
        ``scanpy.datasets.paul15`` has only them.

    Raises
    ------
    ConnectionError, ImportError
        As :func:`pbmc3k`.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.paul15()  # doctest: +SKIP
    """
    with h5py.File(_fetch("paul15", path)) as file:
        counts = sp.csr_matrix(file["data.debatched"][()].T, dtype=np.float32)
        genes = [name.split(";")[0] for name in file["data.debatched_rownames"].asstr()[()]]
        cells = file["data.debatched_colnames"].asstr()[()]
        clusters = file["cluster.id"][()].ravel().astype(int)
        informative = set(file["info.genes_strings"].asstr()[()].ravel())
    obs = pd.DataFrame(
        {"paul15_clusters": pd.Categorical([f"{number}{_PAUL15[number - 1]}" for number in clusters])}, index=cells
    )
    unique = make_index_unique(pd.Index(genes))
    var = pd.DataFrame({"informative": [gene in informative for gene in genes]}, index=unique)
    return AnnData(counts, obs=obs, var=var)


def pbmc5k_citeseq(*, path: str | PathLike[str] | None = None) -> AnnData:
    """Blood cells with 32 surface proteins counted beside their genes, 10x Genomics chemistry v3.

    Source: [1]_.

    Parameters
    ----------
    path
        Folder that keeps the file (17.1 MB), as in :func:`pbmc3k`.

    Returns
    -------
    anndata.AnnData
        5,247 cells. ``X`` : CSR float32, the counts of 33,538 genes. ``obsm["protein"]`` : data frame with the counts
        of the proteins, int64.

    Raises
    ------
    ConnectionError, ImportError
        As :func:`pbmc3k`.

    References
    ----------
    .. [1] 10x Genomics. 5k peripheral blood mononuclear cells from a healthy donor with cell surface proteins (v3 chemistry).
       CC BY 4.0.

    Examples
    --------
    >>> import scdae
    >>> adata = scdae.datasets.pbmc5k_citeseq()  # doctest: +SKIP
    """
    from scanpy import read_10x_h5

    with warnings.catch_warnings():  # names of genes are not unique in it, which is mended here
        warnings.simplefilter("ignore")
        both = read_10x_h5(_fetch("pbmc5k_citeseq", path), gex_only=False)
        both.var_names_make_unique()
    is_gene = (both.var["feature_types"] == "Gene Expression").to_numpy()
    adata = both[:, is_gene].copy()
    adata.X = sp.csr_matrix(adata.X, dtype=np.float32)
    adata.obsm["protein"] = both[:, ~is_gene].to_df().astype(np.int64)
    return adata


def _fetch(name: str, path: str | PathLike[str] | None) -> Path:
    """Return the checked file of a data set: the kept one, or a new one from the first address that gives it."""
    try:
        import pooch
    except ImportError:
        raise ImportError(
            f"Fetching {name} needs pooch, which is not installed. Run: pip install 'scdae[datasets]'"
        ) from None
    from requests.exceptions import RequestException

    file = _FILES[name]
    folder = Path(pooch.os_cache("scdae") if path is None else path).expanduser()
    if not (folder / file.name).exists():
        get_logger().info(f"Fetching {name}, {file.megabytes} MB, into {folder}")
    reasons = []
    for url in file.urls:
        # 10x refuses agents that it does not know
        downloader = pooch.HTTPDownloader(
            progressbar=is_watched(), timeout=30, headers={"User-Agent": "Mozilla/5.0 (compatible; scdae)"}
        )
        try:
            with _quiet():
                return Path(pooch.retrieve(url, file.known_hash, file.name, folder, downloader=downloader))
        except RequestException as error:
            reasons.append(f"{url}: {type(error).__name__}")
        except ValueError:  # pooch's word for another hash
            reasons.append(f"{url}: gave other bytes than the known ones")
    raise ConnectionError(
        f"{name} ({file.megabytes} MB) could not be had. {'; '.join(reasons)}. It is fetched once and then kept, so a network "
        f"is needed the first time only. Without one, copy {file.name} ({file.known_hash}) to {folder} from elsewhere, or "
        "work on simulated counts: scdae.datasets.simulate()."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pooch from telling what our own message says."""
    import pooch

    logger = pooch.get_logger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
