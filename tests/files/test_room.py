import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scdae.files import room
from scdae.files.room import NoRoom, check_room, in_words
from scdae.files.sizes import bytes_of
from scdae.files.targets import WriteError, writes
from scdae.io import write as output
from scdae.io.write import write_atomic


def sample(n=2000, g=300):
    rng = np.random.default_rng(0)
    adata = ad.AnnData(sp.csr_matrix(rng.poisson(0.5, (n, g)).astype("f4")))
    adata.obs["kind"] = pd.Categorical(rng.integers(0, 5, n).astype(str))
    adata.obs["text"] = [f"a text of cell {i}" for i in range(n)]
    adata.layers["scdae"] = rng.random((n, g)).astype("f4")
    adata.obsm["X_scdae"] = rng.random((n, 12))
    adata.uns["scdae"] = {"history": {"loss": np.arange(50.0)}, "output": "mean"}
    adata.raw = adata.copy()
    return adata


def test_bytes_are_enough_and_not_many_too_many(tmp_path):
    adata = sample()
    write_atomic(adata, tmp_path / "a.h5ad")
    stat = (tmp_path / "a.h5ad").stat()
    assert stat.st_size <= bytes_of(adata) < 1.2 * stat.st_size
    assert stat.st_blocks * 512 < stat.st_size + 2**16, "what was reserved and not used was given back"


def test_a_full_disk_is_an_error_that_names_the_output(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda folder: 10_000)
    with pytest.raises(WriteError, match=r"a\.h5ad: about .* MB would be written, and 10 kB are free there"):
        write_atomic(sample(), tmp_path / "a.h5ad")
    assert list(tmp_path.iterdir()) == []


def test_a_limit_of_the_size_of_files(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_longest", lambda: 20_000)
    with pytest.raises(NoRoom, match=r"a file may have 20 kB here \(ulimit -f\)"):
        check_room(tmp_path / "a.h5ad", 30_000)
    check_room(tmp_path / "a.h5ad", 10_000)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "could not be written: No space left on device"),
        (RuntimeError("Can't decrement id ref count (errno = 27, error message = 'x')"), "written: File too large"),
        (OSError("Can't synchronously write data"), "written: Can't synchronously write data"),
    ],
)
def test_errors_of_writing_name_the_output(error, words):
    with pytest.raises(WriteError, match=rf"^out\.h5ad {words}" if words.startswith("could") else words):
        with writes("out.h5ad"):
            raise error
    with pytest.raises(RuntimeError, match="something else"):
        with writes("out.h5ad"):
            raise RuntimeError("something else")


def test_a_disk_that_fills_up_under_a_lazy_layer(tmp_path, monkeypatch):
    import dask.array as da

    adata = ad.AnnData(np.ones((100, 20), "f4"))
    adata.layers["lazy"] = da.ones((100, 20), chunks=(10, 20), dtype="f4").map_blocks(sp.csr_matrix)
    monkeypatch.setattr(output, "free_bytes", lambda folder: 1000)
    with pytest.raises(WriteError, match="a.h5ad: 1 kB are left there"):
        write_atomic(adata, tmp_path / "a.h5ad")
    assert list(tmp_path.iterdir()) == []
    adata.layers["lazy"] = da.ones((100, 20), chunks=(10, 20), dtype="f4")  # its room is reserved beforehand
    write_atomic(adata, tmp_path / "a.h5ad")
    assert (ad.read_h5ad(tmp_path / "a.h5ad").layers["lazy"] == 1).all()


def test_sizes_in_words():
    assert [in_words(size) for size in (3, 2e3, 2e9, 3e12)] == ["3 bytes", "2 kB", "2 GB", "3 TB"]
