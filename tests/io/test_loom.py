import h5py
import numpy as np
import pytest

from cases import barcodes
from scdae.io.read import read_any

X = np.random.default_rng(0).poisson(1.0, (6, 5))
CELLS, GENES = barcodes(6), [f"gene{j}" for j in range(5)]


def _loom(path, *, cells="CellID", genes="Gene", layers=(), **attributes):
    with h5py.File(path, "w") as file:
        file["matrix"] = X.T
        for name in ("row_attrs", "col_attrs", "layers"):
            file.create_group(name)
        if cells:
            file[f"col_attrs/{cells}"] = np.array(CELLS, dtype="S")
        if genes:
            file[f"row_attrs/{genes}"] = np.array(GENES, dtype="S")
        for name, part in dict(layers).items():
            file[f"layers/{name}"] = part
        for name, values in attributes.items():
            file[f"col_attrs/{name}"] = values
    return path


@pytest.mark.parametrize(
    ("cells", "genes"),
    [
        ("CellID", "Gene"),
        ("barcode", "target_name"),
        ("cell_id", "gene_name"),
        ("obs_names", "var_names"),
        ("own", "mine"),
    ],
)
def test_all_molecules_and_the_names_of_the_file(tmp_path, cells, genes):
    spliced = X.T // 2
    path = _loom(tmp_path / "a.loom", cells=cells, genes=genes, layers={"spliced": spliced, "unspliced": X.T - spliced})
    adata = read_any(path)
    np.testing.assert_array_equal(adata.X.toarray(), X)
    np.testing.assert_array_equal(adata.layers["spliced"].toarray(), spliced.T)
    assert list(adata.obs_names) == CELLS and list(adata.var_names) == GENES


def test_attributes_and_cells_without_names(tmp_path, log):
    adata = read_any(_loom(tmp_path / "a.loom", cells=None, batch=np.ones((6, 1)), xy=np.ones((6, 2))))
    assert list(adata.obs.columns) == ["batch"] and adata.obsm["xy"].shape == (6, 2)
    assert list(adata.obs_names) == list("012345") and "called by their number" in log.text


def test_genes_without_names_and_parts_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="row_attrs name no gene"):
        read_any(_loom(tmp_path / "a.loom", genes=None))
    with pytest.raises(ValueError, match=r"layer 'half' has shape \(2, 6\)"):
        read_any(_loom(tmp_path / "b.loom", layers={"half": X.T[:2]}))
