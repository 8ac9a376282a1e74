"""The documentation is about this package: its modules, and calls that run."""

import ast
import inspect
import re
from pathlib import Path

import pytest
import typer

import scdae
import scdae.model.posterior
import small
from scdae.cli import app
from scdae.core.config import Config
from scdae.model.fitted_model import FittedModel

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is not here")


def test_every_page_is_in_the_table_of_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = index[index.index("{toctree}") :].split()
    assert {page.stem for page in DOCS.glob("*.md")} - {"index"} <= set(listed)


def test_links_between_pages_lead_somewhere():
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([\w./-]+\.(?:md|ipynb))(?:#[\w-]+)?\)", page.read_text(encoding="utf-8")):
            there = ROOT / target if target.startswith("tutorials/") else DOCS / target
            assert there.exists(), f"{page.name} links to {target}"


def test_every_public_name_is_in_the_reference():
    """Their methods and attributes are looked for when the documentation is built (docs/conf.py)."""
    entries = set((DOCS / "api.md").read_text(encoding="utf-8").split())
    named = {f"{part}.{name}" for part in scdae.__all__ for name in getattr(getattr(scdae, part), "__all__", ())}
    assert len(named) > 40 and named | {"DAE", "_settings.Settings"} <= entries


def test_every_plot_has_its_picture_in_the_gallery():
    gallery = (ROOT / "tutorials/plots.ipynb").read_text(encoding="utf-8")
    assert set(re.findall(r"## `scdae\.pl\.(\w+)`", gallery)) == set(scdae.pl.__all__)


def code_of(page):
    return re.findall(r"^ *```python\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
# Names that stand for something on the pages, and what it is.
OBJECTS = {"scdae": scdae, "model": scdae.DAE, "posterior": scdae.model.posterior.Posterior}


def called(node):
    """What a call such as `scdae.pp.impute(...)` or `model.latent(...)` calls; None where it is not ours."""
    path = ast.unparse(node.func).split(".")
    if path[0] not in OBJECTS or any(not part.isidentifier() for part in path):
        return None
    found = OBJECTS[path[0]]
    for part in path[1:]:
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_calls_on_the_page_have_these_arguments(page):
    known = set(Config.names())
    for code in code_of(page):
        for node in ast.walk(ast.parse(code)):
            function = called(node) if isinstance(node, ast.Call) else None
            if function is None:
                continue
            signature = inspect.signature(function)
            for argument in node.keywords:
                there = argument.arg in signature.parameters or argument.arg is None
                assert there or ("settings" in signature.parameters and argument.arg in known), ast.unparse(node)


def test_calls_of_other_packages_become_calls_that_run(tmp_path, monkeypatch):
    """With a model that is there; those that need one with batches, or of other data, are left to the tests of these."""
    known = small.fitted()

    def fit_counts(model, counts, covariates, *arguments, **options):
        model.config = known.config
        model._fitted = FittedModel(known.config, known.outcome, counts.var_names, covariates)
        return model

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scdae.DAE._fit_counts", fit_counts)
    monkeypatch.setattr("scdae.datasets.simulate", lambda **size: small.structured())
    monkeypatch.setattr("scanpy.pp.neighbors", lambda adata, use_rep: adata.obsm[use_rep])
    names, written = {}, set()  # a later call takes away the layers of an earlier one
    for code in code_of(DOCS / "migrating.md"):
        if "batch_key" not in code and "adapt(" not in code:
            exec(compile(code, "migrating.md", "exec"), names)
            written |= set(names["adata"].layers)
    assert {"scdae", "scdae_log1p", "restored_log"} <= written


def options_of(name):
    """Options that a command takes."""
    found = next(command for command in app.registered_commands if command.callback.__name__ == name)
    click = typer.main.get_command_from_info(found, pretty_exceptions_short=False, rich_markup_mode=None)
    return {option for parameter in click.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_on_the_page_have_these_options(page):
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for name, rest in re.findall(
            r"(?:^|\s)scdae (impute|fit|apply|collect|evaluate|score|gather|demo|info)\b([^\n#]*)", block
        ):
            unknown = set(re.findall(r"(?:^|\s)(--?[a-z][\w-]*)", rest)) - options_of(name)
            assert not unknown, f"scdae {name}{rest}"
