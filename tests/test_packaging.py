"""What is said in several files about the package is said alike."""

import hashlib
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not in a checkout")


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def text(name):
    path = ROOT / name
    return path.read_text(encoding="utf-8") if path.exists() else pytest.skip(f"{name} is not here")


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("CITATION.cff", r"^version: (\S+)$"),
        ("conda/recipe/meta.yaml", r'set version = "(\S+)"'),
        (".github/ecosystem/meta.yaml", r"^version: (\S+)$"),
    ],
)
def test_one_version(name, pattern):
    assert re.search(pattern, text(name), re.MULTILINE)[1] == project()["version"]


def test_the_recipe_needs_what_the_package_needs():
    run = text("conda/recipe/meta.yaml").split("  run:\n")[1].split("\n\n")[0]
    there = dict(re.findall(r"- (\S+) >=(\S+)", run))
    wanted = {"python": project()["requires-python"].removeprefix(">=")}
    for line in project()["dependencies"]:
        name, bound = line.split(">=")
        wanted[name.split("[")[0]] = bound
    assert there == wanted


def test_the_matrix_has_every_python_that_is_promised():
    promised = [line.rsplit(" ", 1)[1] for line in project()["classifiers"] if re.search(r":: 3\.\d+$", line)]
    matrix = re.search(r"python: \[(.*)\]", text(".github/workflows/test.yml"))[1]
    assert re.findall(r"\d\.\d+", matrix) == promised


@pytest.mark.parametrize("name", ["config.yml", "bug.yml", "question.yml", "feature.yml"])
def test_issue_forms_have_what_github_asks_for(name):
    yaml = pytest.importorskip("yaml")
    form = yaml.safe_load(text(f".github/ISSUE_TEMPLATE/{name}"))
    if name == "config.yml":
        assert set(form) <= {"blank_issues_enabled", "contact_links"}
        return
    assert {"name", "description", "body"} <= set(form) <= {"name", "description", "body", "labels", "title"}
    names = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(set(names)) == len(names) > 0
    for field in form["body"]:
        assert field["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        assert ("value" if field["type"] == "markdown" else "label") in field["attributes"]


FILLED = [
    *("pyproject.toml", "README.md", "CITATION.cff", "conda/recipe/meta.yaml", ".github/ecosystem/meta.yaml"),
    *("benchmarks/open_problems/config.vsh.yaml", ".github/ISSUE_TEMPLATE/config.yml"),
]


@pytest.fixture
def release(tmp_path, monkeypatch):
    """The script of a release, on a copy of the files that it changes."""
    if not (ROOT / ".ci/release.py").exists():
        pytest.skip("not in a checkout")
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci/release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in FILLED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text(name), encoding="utf-8")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def test_the_address_of_the_repository_comes_from_one_place(release, tmp_path):
    yaml = pytest.importorskip("yaml")
    for address in ("https://github.com/first/scdae", "https://github.com/second/scdae"):
        release.set_repository(address)
        read = {name: (tmp_path / name).read_text(encoding="utf-8") for name in FILLED}
        assert tomllib.loads(read["pyproject.toml"])["project"]["urls"]["Issues"] == f"{address}/issues"
        assert all(address in text for name, text in read.items() if name not in {"conda/recipe/meta.yaml", FILLED[-1]})
        listed = yaml.safe_load(read[".github/ecosystem/meta.yaml"])
        assert (listed["project_home"], listed["contact"]) == (address, [address.split("/")[3]])
        assert read["README.md"].count("badge") >= 3 and f"{address}/issues" in read["README.md"]
        assert yaml.safe_load(read["CITATION.cff"])["repository-code"] == address
        assert len(yaml.safe_load(read[FILLED[-1]])["contact_links"]) == 2
    assert not any("github.com/first" in text for text in read.values())


def test_a_tag_sets_the_version_everywhere(release, tmp_path):
    release.set_repository("https://github.com/first/scdae")
    release.set_version("1.2.3rc1")
    for name, pattern in release.VERSIONED.items():
        assert re.search(pattern, (tmp_path / name).read_text(encoding="utf-8"))[1] == "1.2.3rc1", name
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "https://raw.githubusercontent.com/first/scdae/v1.2.3rc1/docs/_static/demo.png" in page
    assert re.findall(r"\]\((?!https?:|#)", page) == [], "PyPI shows the page, where relative links lead nowhere"
    with pytest.raises(SystemExit, match="no version"):
        release.set_version("1.2")


def test_the_recipe_for_conda_forge_takes_the_sdist(release, tmp_path):
    sdist = tmp_path / "scdae-0.1.0.tar.gz"
    sdist.write_bytes(b"packed")
    recipe = release.conda_recipe(sdist, "someone")
    assert hashlib.sha256(b"packed").hexdigest() in recipe and "path:" not in recipe
    assert "    - someone" in recipe and "doc_url: https://scdae.readthedocs.io" in recipe


def test_links_of_the_readme_lead_somewhere():
    docs = project()["urls"]["Documentation"]
    found = re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", text("README.md"))
    pages = [link.removeprefix(f"{docs}/en/latest/") for link in found if link.startswith(docs)]
    assert len(pages) > 10
    for page in pages:
        name = (page or "index.html").removesuffix(".html")
        assert any((ROOT / place).exists() for place in (f"docs/{name}.md", f"{name}.ipynb")), page
    assert [link for link in found if not link.startswith("http") and not (ROOT / link).exists()] == []
