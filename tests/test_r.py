"""The page "From R and back", run in R from its first line to its last, and its values compared with those in Python."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scdae
from scdae.io.read import read_any
from scdae.matrices.obs_tables import join_obs

PAGE = Path(__file__).parent.parent / "docs/r.md"
PACKAGES = ("SingleCellExperiment", "DropletUtils", "HDF5Array", "rhdf5", "Seurat", "scuttle")
GENES, CELLS = [f"gene{i}" for i in range(1, 101)], [f"cell{i}" for i in range(1, 151)]

# What the page says and its code does not show
SAID = r"""
same <- function(x, y) stopifnot(isTRUE(all.equal(unname(as.matrix(x)), unname(as.matrix(y)), tolerance = 0)))
same(layer, assay(sce, "scdae")[rownames(layer), colnames(layer)])
stopifnot(is.factor(h5read(file, "var/scdae_helped")), inherits(try(H5ADMatrix("sparse.h5ad", layer = "scdae"), TRUE), "try-error"))
sce <- scuttle::logNormCounts(sce, assay.type = "scdae", name = "scdae_log")

write10xCounts("version2.h5", counts(sce), gene.type = rep(c("Gene Expression", "Antibody Capture"), c(90, 10)))
write10xCounts("version3.h5", counts(sce), gene.type = rep(c("Gene Expression", "Antibody Capture"), c(90, 10)), version = "3")
writeTENxMatrix(counts(sce), "tenx.h5", group = "counts") |> try(TRUE)
dir.create("mm")
Matrix::writeMM(counts(sce), "mm/counts.mtx")
write.table(data.frame(rownames(sce), rownames(sce)), "mm/genes.tsv", sep = "\t")
write.table(colnames(sce), "mm/barcodes.tsv")

Idents(object) <- object$cell_type
fold <- function(object) {
  found <- FindMarkers(object, "type 1", "type 2", assay = "scdae", logfc.threshold = 0, min.pct = 0, verbose = FALSE)
  stopifnot(found$pct.1 == 1, found$pct.2 == 1)  # no value is zero
  found[rownames(object[["scdae"]]), "avg_log2FC"]
}
logs <- object
logs[["scdae"]] <- CreateAssayObject(data = as.matrix(GetAssayData(object, assay = "scdae", slot = "data")))
logs@commands <- logs@commands[setdiff(names(logs@commands), "NormalizeData.scdae")]
good <- fold(object)
bad <- fold(logs)
means <- sapply(c("type 1", "type 2"), function(type) {
  rowMeans(expm1(as.matrix(GetAssayData(object, assay = "scdae", slot = "data")))[, object$cell_type == type])
})
stopifnot(all.equal(good, unname(log2(means[, 1] + 1) - log2(means[, 2] + 1))))
stopifnot(mean(abs(bad)) < 0.8 * mean(abs(good)))

values <- list(counts = counts(sce), assay = assay(sce, "scdae"), latent = reducedDim(sce, "scdae"), sparse = sparse,
               gain = rowData(sce)$scdae_gain, helped = rowData(sce)$scdae_helped,
               seurat = GetAssayData(object, assay = "scdae", slot = "counts"))
for (name in names(values)) writeBin(as.double(as.matrix(values[[name]])), paste0(name, ".bin"))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the page was run."""
    rscript = shutil.which("Rscript")
    if rscript is None:
        pytest.skip("Rscript is not here: CONTRIBUTING.md names the packages of Debian")
    if not PAGE.exists():
        pytest.skip("the documentation is not here")
    quoted = ", ".join(f'"{name}"' for name in PACKAGES)
    missing = f"cat(Filter(function(name) !nzchar(system.file(package = name)), c({quoted})))"
    lacking = subprocess.run([rscript, "-e", missing], capture_output=True, text=True, check=True).stdout.split()
    if lacking:
        pytest.skip(f"R lacks {', '.join(lacking)}: CONTRIBUTING.md names the packages of Debian")
    folder = tmp_path_factory.mktemp("r")
    (folder / "page.R").write_text(_script(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    path = os.pathsep.join([str(Path(scdae.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [rscript, "page.R"], cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    return folder


def _script(page):
    """All code of the page as one script of R, and what the page says besides."""
    parts = ["options(warn = 1)"]
    for language, code in re.findall(r"^```(r|bash)\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        if language == "r":
            parts.append(code)
        for line in code.splitlines() if language == "bash" else []:
            words = ", ".join(f'"{word}"' for word in ["-m", *line.split()])
            parts.append(f'stopifnot(system2("{sys.executable}", c({words})) == 0)')
    return "\n".join([*parts, SAID])


def _values(folder, name, *shape):
    """What R wrote, column by column, as doubles."""
    return np.fromfile(folder / f"{name}.bin").reshape(shape, order="F")


def test_the_page_has_code_and_commands():
    if not PAGE.exists():
        pytest.skip("the documentation is not here")
    script = _script(PAGE.read_text(encoding="utf-8"))
    assert script.count("write10xCounts(") >= 4 and script.count('"scdae", "impute"') == 2 and "H5ADMatrix(" in script


def test_what_leaves_r_is_read_as_it_is(folder):
    counts = _values(folder, "counts", 100, 150).T
    table = pd.read_csv(folder / "cells.csv", index_col=0)
    for name in ("counts.h5", "seurat.h5", "version2.h5", "tenx.h5", "mm", "mm/counts.mtx"):
        adata = read_any(folder / name)
        assert list(adata.obs_names) == CELLS and list(adata.var_names) == GENES, name
        np.testing.assert_array_equal(adata.X.toarray(), counts, err_msg=name)
    assert read_any(folder / "version3.h5").shape == (150, 90)  # version 2 does not say which are antibodies
    for name in ("cells.csv", "seurat.csv"):
        join_obs(adata, folder / name)
        assert list(adata.obs["cell_type"]) == list(table["cell_type"]) and list(adata.obs["batch"]) == list("ab" * 75)
    assert list(adata.obs["nCount_RNA"]) == counts.sum(axis=1).tolist()


def test_what_comes_back_is_what_python_has(folder):
    restored = read_any(folder / "restored.h5ad")
    assert list(restored.obs["batch"]) == list("ab" * 75) and restored.uns["scdae"]["batch_key"] == "batch"
    layer = np.asarray(restored.layers["scdae"]).T.astype(float)
    assert layer.shape == (100, 150) and (layer > 0).all()
    np.testing.assert_array_equal(_values(folder, "assay", 100, 150), layer)
    np.testing.assert_array_equal(_values(folder, "seurat", 100, 150), layer)
    latent = restored.obsm["X_scdae"]
    np.testing.assert_array_equal(_values(folder, "latent", *latent.shape), latent)
    for name in ("gain", "helped"):
        np.testing.assert_array_equal(_values(folder, name, 100), restored.var[f"scdae_{name}"].astype(float))
    sparse = read_any(folder / "sparse.h5ad").layers["scdae"]
    assert sp.issparse(sparse) and sparse.nnz < sparse.shape[0] * sparse.shape[1]
    np.testing.assert_array_equal(_values(folder, "sparse", 100, 150), sparse.toarray().T)
