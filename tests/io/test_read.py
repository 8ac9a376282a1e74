import gzip
import os
import shutil
import zipfile
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from cases import barcodes, write_10x_v2, write_10x_v3
from scdae.io.read import read_any
from scdae.io.write import write_atomic

SHARED = Path(os.environ.get("SCDAE_SHARED", Path(__file__).parent.parents[2] / "shared"))
FORMATS = SHARED / "data" / "formats"
needs_formats = pytest.mark.skipif(not FORMATS.is_dir(), reason="the shared data are not here")

X = np.random.default_rng(0).poisson(1.0, (6, 5))
GENES = [f"gene{j}" for j in range(5)]
IDS = [f"ENSG{j:011d}" for j in range(5)]
CELLS = barcodes(6)


def _adata():
    obs = pd.DataFrame({"donor": list("aabbcc")}, index=CELLS)
    return ad.AnnData(sp.csr_matrix(X.astype("f4")), obs=obs, var=pd.DataFrame(index=GENES))


def _v3(path, types=("Gene Expression",) * 5, **options):
    return write_10x_v3(path, X, GENES, IDS, types, CELLS, **options)


def _mtx(folder, *, version=3, zipped=True, prefix=""):
    folder.mkdir(parents=True)
    scipy.io.mmwrite(folder / "m.mtx", sp.coo_matrix(X.T))
    third = ["\tGene Expression"] * 4 + ["\tAntibody Capture"] if version == 3 else [""] * 5
    texts = {
        "matrix.mtx": (folder / "m.mtx").read_text(),
        "barcodes.tsv": "".join(f"{c}\n" for c in CELLS),
        "features.tsv" if version == 3 else "genes.tsv": "".join(
            f"{i}\t{g}{t}\n" for i, g, t in zip(IDS, GENES, third, strict=True)
        ),
    }
    (folder / "m.mtx").unlink()
    for name, text in texts.items():
        if zipped:
            with gzip.open(folder / f"{prefix}{name}.gz", "wt") as stream:
                stream.write(text)
        else:
            (folder / f"{prefix}{name}").write_text(text)
    return folder


def _error(path, **options):
    with pytest.raises(ValueError, match=".") as caught:
        read_any(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


@pytest.mark.parametrize("name", ["a.h5ad", "a.zarr", "h5ad.without.ending", "zarr.folder.h5ad"])
def test_anndata_whatever_it_is_called(tmp_path, name):
    suffix = ".zarr" if "zarr" in name else ".h5ad"
    write_atomic(_adata(), tmp_path / f"x{suffix}")
    (tmp_path / f"x{suffix}").rename(tmp_path / name)
    back = read_any(str(tmp_path / name))
    np.testing.assert_array_equal(back.X.toarray(), X)
    pd.testing.assert_frame_equal(back.obs, _adata().obs)


@pytest.mark.parametrize("drop", [(), ("feature_type",), ("genome",), ("feature_type", "genome"), ("name",)])
def test_10x_v3_h5(tmp_path, drop):
    back = read_any(_v3(tmp_path / "a.h5", drop=drop, extra={"latent_cell_probability": np.ones(3)}))
    np.testing.assert_array_equal(back.X.toarray(), X)
    assert back.X.dtype == np.float32
    assert list(back.obs_names) == CELLS
    assert list(back.var_names) == (IDS if drop == ("name",) else GENES)
    assert list(back.var["gene_ids"]) == IDS


def test_10x_keeps_genes_only_and_says_so(tmp_path, log):
    types = ["Gene Expression", "Antibody Capture", "Gene Expression", "CRISPR Guide Capture", "Antibody Capture"]
    back = read_any(_v3(tmp_path / "a.h5", types=types))
    np.testing.assert_array_equal(back.X.toarray(), X[:, [0, 2]])
    assert "2 Antibody Capture, 1 CRISPR Guide Capture" in log.text
    text = _error(_v3(tmp_path / "b.h5", types=["Antibody Capture"] * 5))
    assert "no gene expression" in text


def test_10x_v3_of_two_genomes(tmp_path):
    path = tmp_path / "a.h5"
    _v3(path, drop=("genome",))
    with h5py.File(path, "a") as file:
        file["matrix/features/genome"] = np.array(["hg", "hg", "mm", "mm", "hg"], dtype="S")
    text = _error(path)
    assert "'hg', 'mm'" in text
    assert "genome='hg'" in text
    np.testing.assert_array_equal(read_any(path, genome="mm").X.toarray(), X[:, 2:4])
    assert "'rn'" in _error(path, genome="rn")


def test_10x_v2_h5(tmp_path):
    one = write_10x_v2(tmp_path / "one.h5", {"hg19": (X, GENES, IDS)}, CELLS)
    for genome in (None, "hg19"):
        np.testing.assert_array_equal(read_any(one, genome=genome).X.toarray(), X)
    assert "'hg19'" in _error(one, genome="mm10")
    two = write_10x_v2(tmp_path / "two.h5", {"hg19": (X, GENES, IDS), "mm10": (2 * X, GENES, IDS)}, CELLS)
    assert "'hg19', 'mm10'" in _error(two)
    back = read_any(two, genome="mm10")
    np.testing.assert_array_equal(back.X.toarray(), 2 * X)
    assert list(back.var["gene_ids"]) == IDS


@pytest.mark.parametrize("part", ["indptr", "barcodes", "features/id", "shape"])
def test_10x_h5_with_a_part_missing(tmp_path, part):
    path = _v3(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file["matrix"][part]
    assert "cannot be read" in _error(path)


def test_10x_h5_whose_parts_do_not_fit(tmp_path):
    path = write_10x_v3(tmp_path / "a.h5", X, GENES, IDS, ["Gene Expression"] * 5, CELLS[:4])
    assert "5 features and 4 barcodes" in _error(path)
    path = _v3(tmp_path / "b.h5")
    with h5py.File(path, "a") as file:
        file["matrix/indices"][0] = 77
    assert "cannot be read" in _error(path)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("zipped", [True, False])
def test_mtx_folder(tmp_path, version, zipped, log):
    folder = _mtx(tmp_path / "sample", version=version, zipped=zipped)
    back = read_any(folder)
    n = 4 if version == 3 else 5
    np.testing.assert_array_equal(back.X.toarray(), X[:, :n])
    assert list(back.obs_names) == CELLS
    assert list(back.var_names) == GENES[:n]
    assert ("1 Antibody Capture" in log.text) == (version == 3)


def test_mtx_folder_one_level_down_and_with_prefix(tmp_path):
    folder = _mtx(tmp_path / "run" / "hg19", version=2, prefix="GSM1_s1_")
    np.testing.assert_array_equal(read_any(tmp_path / "run").X.toarray(), X)
    shutil.copytree(folder, tmp_path / "run" / "mm10")
    assert "'hg19', 'mm10'" in _error(tmp_path / "run")
    assert read_any(tmp_path / "run", genome="mm10").shape == X.shape


def test_damaged_mtx_folders(tmp_path):
    folder = _mtx(tmp_path / "cut")
    whole = (folder / "matrix.mtx.gz").read_bytes()
    (folder / "matrix.mtx.gz").write_bytes(whole[: len(whole) // 2])
    assert "matrix.mtx.gz is truncated or damaged" in _error(folder)
    folder = _mtx(tmp_path / "short", zipped=False)
    (folder / "barcodes.tsv").write_text("AAA\n")
    assert "5 features and barcodes.tsv 1 cells" in _error(folder)
    (folder / "barcodes.tsv").unlink()
    assert "barcodes.tsv.gz, barcodes.tsv" in _error(folder)
    assert "barcodes.tsv.gz, barcodes.tsv" in _error(folder / "matrix.mtx")


def test_kinds_that_are_not_read(tmp_path):
    files = {name: tmp_path / name for name in ("empty.h5ad", "table.md", "store.zip", "other.h5", "a.h5mu")}
    files["empty.h5ad"].touch()
    files["table.md"].write_text("gene,a,b\nx,1,2\n")
    with zipfile.ZipFile(files["store.zip"], "w") as archive:
        archive.writestr("x", "y")
    for name, keys in {
        "other.h5": ["pixels"],
        "a.h5mu": ["mod/rna/X", "mod/prot/X", "obs/_index"],
    }.items():
        with h5py.File(files[name], "w") as file:
            for key in keys:
                file[key] = np.ones(3)
    words = ["is empty", "cannot be read here", "zip archive", "it holds 'pixels'", "'prot', 'rna'"]
    for path, word in zip(files.values(), words, strict=True):
        assert word in _error(path)
    (tmp_path / "folder").mkdir()
    assert "neither a zarr store nor a matrix.mtx" in _error(tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match="nothing.h5ad does not exist"):
        read_any(tmp_path / "nothing.h5ad")


def test_truncated_at_any_place(tmp_path):
    whole = tmp_path / "whole.h5ad"
    write_atomic(_adata(), whole)
    content = whole.read_bytes()
    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        path = tmp_path / f"cut{share}.h5ad"
        path.write_bytes(content[: int(len(content) * share)])
        assert "truncated or damaged" in _error(path)


def test_zarr_without_an_anndata_and_genome_for_one(tmp_path):
    import zarr

    zarr.open_group(tmp_path / "image.zarr", mode="w").create_array("pixels", data=np.ones(3))
    assert "holds no AnnData" in _error(tmp_path / "image.zarr")
    write_atomic(_adata(), tmp_path / "a.h5ad")
    assert "genome='hg19' is for 10x files" in _error(tmp_path / "a.h5ad", genome="hg19")


@needs_formats
@pytest.mark.parametrize(
    ("name", "shape", "total"),
    [
        ("10x_v2_filtered_gene_bc_matrices.h5", (12, 343), 12),
        ("10x_v2_mtx_dir", (12, 343), 12),
        ("10x_v3_filtered_feature_bc_matrix.h5", (1107, 507), 41549),
        ("10x_v3_mtx_dir", (1107, 507), 41549),
        ("made_pbmc3k150_10x_v2_mtx", (150, 16634), 344269),
        ("scprep_10X_cellranger3.h5", (100, 100), None),
        ("anndata_v0.5.0_pbmc68k_reduced.h5ad", (700, 765), None),
        ("anndata_v0.7.0_synthetic.h5ad", (30, 20), None),
        ("made_pbmc3k150_csc_lognorm_raw_layers.h5ad", (150, 2000), None),
        ("made_pbmc3k150_dense_float64.h5ad", (150, 3000), None),
        ("made_pbmc3k120.loom", (120, 4797), None),
        ("starmap_mpfc.loom", (3704, 158), None),
    ],
)
def test_real_files(name, shape, total):  # totals as scanpy 1.11 reads them
    adata = read_any(FORMATS / name)
    assert adata.shape == shape
    if total is not None:
        assert adata.X.sum() == total


@needs_formats
@pytest.mark.parametrize("name", ["anndata_v0.7.8_synthetic.zarr.zip", "made_pbmc3k150.zarr.zip"])
def test_real_zarr_stores(tmp_path, name):
    with zipfile.ZipFile(FORMATS / name) as archive:
        archive.extractall(tmp_path / "store")
    inner = [p.parent for p in (tmp_path / "store").rglob(".zgroup") if (p.parent / "obs").is_dir()]
    inner += [p.parent for p in (tmp_path / "store").rglob("zarr.json") if (p.parent / "obs").is_dir()]
    assert read_any(min(inner, key=lambda p: len(p.parts))).n_obs in (30, 150)


@needs_formats
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("10x_v2_multiple_genomes.h5", "'another_genome', 'hg19_chr21'"),
        ("made_citeseq_pbmc5k_200.h5mu", "'prot', 'rna'"),
    ],
)
def test_real_files_that_are_refused(name, words):
    assert words in _error(FORMATS / name)


@needs_formats
def test_a_real_table_of_genes_by_cells():
    read = read_any(FORMATS / "made_pbmc3k150_genes_by_cells.csv.gz", transpose=True)
    assert read.n_obs == 150 and "NOC2L" in read.var_names and read.obs_names[0] == "AAACGCTGGTTCTT-1"
    assert read.X.sum() > 1000 and (read.X.data == np.rint(read.X.data)).all()
