"""The report of an evaluation as a page."""

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import scdae
import small
from scdae.cli import app
from scdae.io.write import write_atomic

FEW = {"max_epochs": 2, "batch_size": 64}


class Page(HTMLParser):
    """What a page holds; tags have to be closed in turn."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.images, self.links = [], [], [], []
        self.feed(text)
        assert self.open == [], "every tag is closed"
        self.words = " ".join(self.text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [attrs[name] for name in ("href", "src") if name in attrs]
        if tag == "img":
            self.images.append(attrs)
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def evaluated():
    """Names that are markup; not to be changed."""
    adata = small.structured()
    adata.obs["<kind> & 'co'"] = adata.obs["cell_type"].astype(str).replace({"type_1": "<script>alert(1)</script>"})
    adata.var_names = [f"<b>{name}</b>" for name in adata.var_names]
    scdae.tl.evaluate(adata, groupby="<kind> & 'co'", likelihood="nb", **FEW)
    return adata


def test_a_page_of_an_evaluation(evaluated, tmp_path, log):
    scdae.tl.report(evaluated, tmp_path / "r.html", title="Tom & <Jerry>")
    text = (tmp_path / "r.html").read_text()
    assert "<script" not in text and "<b>" not in text, "names are escaped"
    page = Page(text)
    assert page.text.count("Tom & <Jerry>") == 2 and "<script>alert(1)</script>" in page.words
    assert evaluated.uns["scdae_evaluation"]["verdict"] in page.text
    assert len(page.images) == 6, "gain, calibration, cells, methods, training, groups"
    assert all(image["alt"] and image["src"].startswith("data:image/png;base64,") for image in page.images)
    assert all(link.startswith("data:") for link in page.links), "nothing is fetched"
    for words in ("Does it help?", "low rank", "max_epochs", "scdae", scdae.__version__, "Number of cells", "nb"):
        assert words in page.words
    assert f"wrote {tmp_path / 'r.html'}" in log.text
    with pytest.raises(FileExistsError, match="r.html"):
        scdae.tl.report(evaluated, tmp_path / "r.html")
    scdae.tl.report(evaluated, tmp_path / "r.html", overwrite=True)


def test_a_page_with_a_run_and_a_sweep(evaluated, tmp_path):
    adata = evaluated.copy()
    scdae.pp.impute(adata, likelihood="nb", **FEW)
    n = 2
    adata.uns["scdae_sweep"] = {"level": np.array([0.2, 0.5]), "skill": np.zeros(n), "skill_se": np.zeros(n)}
    adata.uns["scdae_sweep"] |= {"range": np.array([0.1, 0.8]), "range_skill": 0.1, "corruption": "thinning"}
    adata.uns["scdae"]["genes_as_counted"] = np.array(["a", "b"], dtype=object)
    adata.write_h5ad(tmp_path / "a.h5ad")
    import anndata

    back = anndata.read_h5ad(tmp_path / "a.h5ad")
    scdae.tl.report(back, tmp_path / "r.html", genes=list(back.var_names[:3]))
    page = Page((tmp_path / "r.html").read_text())
    assert len(page.images) == 8 and any("as asked for" in image["alt"] for image in page.images)
    assert "2 come back as counted: a, b" in page.words
    with pytest.raises(KeyError, match="nope"):
        scdae.tl.report(back, tmp_path / "s.html", genes=["nope"])


def test_checks_look_at_what_is_not_fine(evaluated):
    from scdae.tools.checks import checks_of

    adata = evaluated[:60].copy()
    entry = adata.uns["scdae_evaluation"]
    entry["skill"] = np.array([0.1, 0.12, 0, -1, 0.2])
    entry["coverage"], entry["calibration_entries"] = 0.5, 100
    entry["n_genes"] = {"helped": 50, "unclear": 0, "gene_mean_is_better": 5, "raw_is_better": 1, "not_judged": 4}
    found = {check.name: check for check in checks_of(adata, "scdae")}
    assert found["Does it help?"].fine and "50 of 56 genes" in found["Does it help?"].words
    bad = ("Genes that are made worse", "Against a low-rank fit", "Number of cells", "Are intervals honest?")
    assert not any(found[name].fine for name in bad)
    entry["n_genes"]["helped"] = 0
    assert not checks_of(adata, "scdae")[0].fine


def test_what_cannot_be(evaluated, tmp_path):
    with pytest.raises(KeyError, match="tl.evaluate"):
        scdae.tl.report(small.structured(), tmp_path / "r.html")
    with pytest.raises(ValueError, match="html"):
        scdae.tl.report(evaluated, tmp_path / "r.pdf")
    with pytest.raises(TypeError, match="Did you mean 'path'"):
        scdae.tl.report(evaluated, paths="r.html")
    assert list(tmp_path.iterdir()) == []


def test_from_the_command_line_with_the_warnings_of_the_run(tmp_path):
    adata = small.structured()
    names = adata.var_names.to_list()
    adata.var_names = pd.Index([names[1], *names[1:]])
    write_atomic(adata, tmp_path / "a&b.h5ad")
    words = ["evaluate", tmp_path / "a&b.h5ad", "--max-epochs", "2", "--html", tmp_path / "r.html"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.stderr
    assert f"Report: {tmp_path / 'r.html'}" in done.stdout
    page = Page((tmp_path / "r.html").read_text())
    assert (
        "var_names holds 1 name(s) more than once" in page.words and "Does imputation help on a&b.h5ad?" in page.words
    )
    again = CliRunner().invoke(app, list(map(str, words)))
    assert again.exit_code == 1 and again.stderr.startswith(f"error: {tmp_path / 'r.html'} exists"), (
        "before time is spent"
    )
