"""What is said in several files about the package is said alike."""

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
