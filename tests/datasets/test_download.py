"""Data sets from a server on this machine: read, kept, checked, and asked for elsewhere when it fails."""

import hashlib
import http.server
import logging
import sys
import threading
from functools import partial

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scdae
from scdae.datasets import _download as downloads


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder, and remembers what it was asked for."""

    def __init__(self, folder):
        self.asked = []
        asked = self.asked

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *args):
                asked.append(self.path)

        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    found = Server(folder)
    found.folder = folder
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


@pytest.fixture
def offer(server, monkeypatch):
    """Make the server, or several addresses, the source of a data set."""

    def offered(name, *, urls=None, known_hash=None):
        file = downloads._FILES[name]
        served = server.folder / file.name
        if known_hash is None:
            known_hash = f"sha256:{hashlib.sha256(served.read_bytes()).hexdigest()}"
        urls = urls or (f"{server.url}/{file.name}",)
        monkeypatch.setitem(downloads._FILES, name, file._replace(known_hash=known_hash, urls=urls))
        return served

    return offered


def put_pbmc3k(folder):
    """A file as scanpy's, but with doubled names of genes."""
    counts = sp.csr_matrix(np.random.default_rng(0).poisson(0.5, (30, 5)).astype(np.float32))
    adata = ad.AnnData(counts, var=pd.DataFrame({"gene_ids": list("vwxyz")}, index=list("abcde")))
    adata.write_h5ad(folder / "pbmc3k_raw.h5ad")
    return adata


def test_it_is_fetched_once_and_kept(server, offer, tmp_path):
    adata = put_pbmc3k(server.folder)
    offer("pbmc3k")
    first = scdae.datasets.pbmc3k(path=tmp_path / "kept")
    assert (first.X != adata.X).nnz == 0
    assert first.var["gene_ids"].tolist() == list("vwxyz")
    asked = len(server.asked)
    assert asked
    again = scdae.datasets.pbmc3k(path=tmp_path / "kept")
    assert (again.X != adata.X).nnz == 0
    assert len(server.asked) == asked
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["pbmc3k_raw.h5ad"]


def test_a_damaged_copy_is_fetched_anew(server, offer, tmp_path):
    adata = put_pbmc3k(server.folder)
    served = offer("pbmc3k")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/pbmc3k_raw.h5ad").write_bytes(served.read_bytes()[:100])
    assert (scdae.datasets.pbmc3k(path=tmp_path / "kept").X != adata.X).nnz == 0


def test_the_second_address_serves_when_the_first_does_not(server, offer, tmp_path):
    put_pbmc3k(server.folder)
    offer("pbmc3k", urls=(f"{server.url}/missing.h5ad", f"{server.url}/pbmc3k_raw.h5ad"))
    assert scdae.datasets.pbmc3k(path=tmp_path / "kept").n_obs == 30


def test_other_bytes_are_refused_and_not_kept(server, offer, tmp_path):
    put_pbmc3k(server.folder)
    offer("pbmc3k", known_hash="sha256:" + "0" * 64)
    with pytest.raises(ConnectionError, match=r"pbmc3k .*gave other bytes than the known ones"):
        scdae.datasets.pbmc3k(path=tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_without_a_network_the_message_says_what_to_do(server, offer, tmp_path):
    put_pbmc3k(server.folder)
    server.shutdown()
    server.server_close()
    offer("pbmc3k")
    with pytest.raises(ConnectionError) as found:
        scdae.datasets.pbmc3k(path=tmp_path / "kept")
    text = str(found.value)
    assert "pbmc3k (5.9 MB) could not be had" in text
    assert "ConnectionError" in text
    assert str(tmp_path / "kept") in text
    assert "scdae.datasets.simulate()" in text
    assert "sha256:" in text


def test_without_pooch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"pip install 'scdae\[datasets\]'"):
        scdae.datasets.paul15()


def test_the_message_is_ours_and_said_once(server, offer, tmp_path, monkeypatch, capsys):
    pooch = pytest.importorskip("pooch")
    level = pooch.get_logger().level
    put_pbmc3k(server.folder)
    offer("pbmc3k")
    monkeypatch.setattr(scdae.settings, "_verbosity", 2)
    scdae.datasets.pbmc3k(path=tmp_path / "kept")
    said = capsys.readouterr().err
    assert said.startswith("Fetching pbmc3k, 5.9 MB, into ")
    assert said.count("\n") == 1
    scdae.datasets.pbmc3k(path=tmp_path / "kept")
    assert capsys.readouterr().err == ""
    assert pooch.get_logger().level == level != logging.ERROR


def test_paul15_has_cells_as_rows_clusters_by_name_and_the_informative_genes(server, offer, tmp_path):
    counts = np.random.default_rng(1).poisson(1.0, (4, 19))  # genes by cells, as in the file
    with h5py.File(server.folder / "paul15.h5", "w") as file:
        file["data.debatched"] = counts.astype(float)
        text = h5py.string_dtype()
        file.create_dataset("data.debatched_rownames", data=["Sfpi1;Pu.1", "Gata1", "Gata1;x", "Elane"], dtype=text)
        file.create_dataset("data.debatched_colnames", data=[f"W{i}" for i in range(19)], dtype=text)
        file["cluster.id"] = np.arange(1, 20)[:, None].astype(float)
        file.create_dataset("info.genes_strings", data=["Elane", "Sfpi1"], dtype=text)
    offer("paul15")
    adata = scdae.datasets.paul15(path=tmp_path / "kept")
    np.testing.assert_array_equal(adata.X.toarray(), counts.T)
    assert adata.X.dtype == np.float32
    assert adata.var_names.tolist() == ["Sfpi1", "Gata1", "Gata1-1", "Elane"]
    assert adata.var["informative"].tolist() == [True, False, False, True]
    assert adata.obs["paul15_clusters"].tolist()[5:9] == ["6Ery", "7MEP", "8Mk", "9GMP"]
    assert adata.obs["paul15_clusters"].iloc[-1] == "19Lymph"


def test_citeseq_parts_genes_and_proteins(server, offer, tmp_path):
    counts = np.random.default_rng(2).poisson(2.0, (6, 5)).astype(np.int32)
    stored = sp.csr_matrix(counts)
    with h5py.File(server.folder / downloads._FILES["pbmc5k_citeseq"].name, "w") as file:
        matrix = file.create_group("matrix")
        matrix["data"], matrix["indices"], matrix["indptr"] = stored.data, stored.indices, stored.indptr
        matrix["shape"] = np.array([5, 6], np.int32)
        matrix["barcodes"] = np.array([f"c{i}" for i in range(6)], "S")
        features = matrix.create_group("features")
        features["id"] = np.array(["ENSG1", "ENSG2", "ENSG3", "CD3", "CD4"], "S")
        features["name"] = np.array(["A", "A", "B", "CD3", "CD4"], "S")
        features["feature_type"] = np.array(["Gene Expression"] * 3 + ["Antibody Capture"] * 2, "S")
        features["genome"] = np.array(["GRCh38"] * 3 + [""] * 2, "S")
        features.create_dataset("_all_tag_keys", data=np.array(["genome"], "S"))
    offer("pbmc5k_citeseq")
    adata = scdae.datasets.pbmc5k_citeseq(path=tmp_path / "kept")
    np.testing.assert_array_equal(adata.X.toarray(), counts[:, :3])
    assert adata.var_names.tolist() == ["A", "A-1", "B"]
    assert adata.obsm["protein"].columns.tolist() == ["CD3", "CD4"]
    np.testing.assert_array_equal(adata.obsm["protein"].to_numpy(), counts[:, 3:])


def test_every_data_set_is_public_and_has_a_hash_and_an_address():
    assert set(downloads._FILES) == set(downloads.__all__) <= set(scdae.datasets._simulate.__all__)
    for file in downloads._FILES.values():
        kind, digest = file.known_hash.split(":")
        assert len(digest) == {"sha256": 64, "md5": 32}[kind]
        assert all(url.startswith("https://") for url in file.urls)
