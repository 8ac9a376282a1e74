"""Fill in what is known only at publication: the version (from the tag) and the address of the repository.

    python .ci/release.py version 0.2.0                            # what the workflow `release` does with a tag v0.2.0
    python .ci/release.py repository https://github.com/NAME/scdae  # once, by hand, when the repository is public
    python .ci/release.py conda dist/scdae-0.2.0.tar.gz NAME       # prints the recipe for conda-forge

The one place of addresses is ``[project.urls]`` in pyproject.toml; all others are written from it, and
``tests/test_packaging.py`` compares them.
"""

import hashlib
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONED = {
    "pyproject.toml": r'(?m)^version = "(.*)"$',
    "CITATION.cff": r"(?m)^version: (.*)$",
    "conda/recipe/meta.yaml": r'set version = "(.*)"',
    ".github/ecosystem/meta.yaml": r"(?m)^version: (.*)$",
}
ISSUES = """contact_links:
  - name: Documentation
    url: {docs}
    about: Quickstart, "Should I impute?", frequently asked questions
  - name: Questions on scanpy and AnnData
    url: https://discourse.scverse.org
    about: The forum of scverse
"""
BADGES = """<!-- badges -->
[![PyPI](https://img.shields.io/pypi/v/scdae)](https://pypi.org/project/scdae)
[![conda-forge](https://img.shields.io/conda/vn/conda-forge/scdae)](https://anaconda.org/conda-forge/scdae)
[![Tests]({repository}/actions/workflows/test.yml/badge.svg)]({repository}/actions)
[![Documentation](https://readthedocs.org/projects/scdae/badge)]({docs})

"""


def urls() -> dict[str, str]:
    """Addresses of the project, as pyproject.toml has them."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]


def edit(name: str, *changes: tuple[str, str]) -> None:
    """Replace the first match of each pattern; one that matches nothing is an error."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for pattern, new in changes:
        text, found = re.subn(pattern, lambda _, new=new: new, text, count=1)
        if not found:
            raise SystemExit(f"{name} has nothing that matches {pattern!r}")
    (ROOT / name).write_text(text, encoding="utf-8")


def set_version(version: str) -> None:
    """Write the version into every file that has one; links of the README become absolute, for PyPI."""
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        raise SystemExit(f"{version!r} is no version: tags are v1.2.3, or v1.2.3rc1")
    for name, pattern in VERSIONED.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        old = re.search(pattern, text)
        if old is None:
            raise SystemExit(f"{name} has no version")
        (ROOT / name).write_text(text[: old.start(1)] + version + text[old.end(1) :], encoding="utf-8")
    repository = urls().get("Repository")
    if repository is None:
        raise SystemExit(
            "pyproject.toml has no address yet: python .ci/release.py repository https://github.com/NAME/scdae"
        )
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    raw = repository.replace("https://github.com", "https://raw.githubusercontent.com")
    text = re.sub(r"\]\((?!https?:|#)([^)]+\.(?:png|svg))\)", rf"]({raw}/v{version}/\1)", text)
    text = re.sub(r"\]\((?!https?:|#)([^)]+)\)", rf"]({repository}/blob/v{version}/\1)", text)
    readme.write_text(text, encoding="utf-8")


def set_repository(repository: str) -> None:
    """Write the address of the repository, once, into every file that needs it."""
    found = re.fullmatch(r"https://github\.com/([\w.-]+)/[\w.-]+", repository)
    if not found:
        raise SystemExit(f"{repository!r} is not like https://github.com/NAME/scdae")
    docs = urls()["Documentation"]
    new = f'[project.urls]\nRepository = "{repository}"\nIssues = "{repository}/issues"\n'
    edit("pyproject.toml", (r"\[project\.urls\]\n(Repository = .*\nIssues = .*\n)?", new))
    edit("README.md", (r"<!-- badges -->\n(\[!\[.*\n)*\n?", BADGES.format(repository=repository, docs=docs)))
    edit(
        "README.md",
        (r"the \[?issues(\]\([^)]*\))? of the repository", f"the [issues]({repository}/issues) of the repository"),
    )
    edit(
        "CITATION.cff",
        (
            r"type: software\n(repository-code: .*\nurl: .*\n)?",
            f"type: software\nrepository-code: {repository}\nurl: {docs}\n",
        ),
    )
    edit(
        ".github/ecosystem/meta.yaml",
        (r"project_home: .*", f"project_home: {repository}"),
        (r"contact:(?: \[\]|\n  - .*)", f"contact:\n  - {found[1]}"),
    )
    edit(
        "benchmarks/open_problems/config.vsh.yaml",
        (r"  documentation: (.*)\n(?:  repository: .*\n)?", f"  documentation: {docs}\n  repository: {repository}\n"),
    )
    edit(".github/ISSUE_TEMPLATE/config.yml", (r"(?s)\n(contact_links:.*)?\Z", "\n" + ISSUES.format(docs=docs)))


def conda_recipe(sdist: Path, maintainer: str) -> str:
    """Return the recipe for conda-forge: the one of this repository, with the file on PyPI as its source."""
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    recipe = (ROOT / "conda/recipe/meta.yaml").read_text(encoding="utf-8")
    source = (
        "source:\n  url: https://pypi.org/packages/source/s/scdae/scdae-{{ version }}.tar.gz\n"
        + f"  sha256: {digest}\n"
    )
    recipe = recipe.replace("source:\n  path: ../..\n", source).partition("\n")[2]
    recipe = recipe.replace("recipe-maintainers: []", f"recipe-maintainers:\n    - {maintainer}")
    home = "".join(
        f"  {key}: {urls()[name]}\n"
        for key, name in (("home", "Repository"), ("doc_url", "Documentation"))
        if name in urls()
    )
    return recipe.replace("about:\n", f"about:\n{home}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["version", version]:
            set_version(version)
        case ["repository", repository]:
            set_repository(repository)
        case ["conda", sdist, maintainer]:
            sys.stdout.write(conda_recipe(Path(sdist), maintainer))
        case _:
            raise SystemExit(__doc__)
