"""The package as a house: folders in an order, imports that only go down it, a dozen modules in each at most."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import scdae

SOURCE = Path(scdae.__file__).parent
ORDER = """
_moved core.config core.runtime core.distributions core.data core.network core.minibatches core.prediction core.evaluation
core.progress core.steps core.training core.guard core.chimeras core.doublets core.panels _settings _log arguments files matrices io inputs model outputs parts sequences get metrics sklearn datasets
tools pp pl tl demo cli.pages cli.jobs cli.shared cli __init__ __main__
""".split()
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCE.rglob("*.py")
}


def imported(path):
    """Modules of the package that one of them imports, at the top or within a function; types alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    skipped = {id(inner) for node in for_types for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and id(node) not in skipped
            and (node.module or "").split(".")[0] == "scdae"
        ):
            module = node.module.partition(".")[2]
            for alias in node.names:
                child = f"{module}.{alias.name}".strip(".")
                yield child if child in MODULES else module or "__init__"


def room(module):
    """Place of a module in the order: that of its folder, or its own."""
    parts = module.split(".")
    return next(ORDER.index(name) for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in ORDER)


IMPORTS = {module: sorted(set(imported(path)) - {module}) for module, path in MODULES.items() if module != "core"}


@pytest.mark.parametrize("module", sorted(IMPORTS))
def test_imports_only_go_down(module):
    above = [other for other in IMPORTS[module] if other != "__init__" and room(other) > room(module)]
    assert above == [], f"{module} imports from a folder that stands above its own"


def test_no_module_imports_itself_by_way_of_others():
    graphlib.TopologicalSorter(
        {m: [o for o in others if o != "__init__"] for m, others in IMPORTS.items() if m != "model"}
    ).prepare()


def test_no_folder_holds_more_than_a_dozen_modules_and_each_says_what_it_is_for():
    for folder in {path.parent for path in MODULES.values()}:
        assert sum(path.name != "__init__.py" for path in folder.glob("*.py")) <= 12, folder
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))), folder


def test_tests_lie_as_the_sources():
    tests = Path(__file__).parent
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    assert [str(folder) for folder in folders if not (SOURCE / folder).is_dir()] == []


def test_the_pages_say_the_same_order():
    page = Path(__file__).parent.parent / "docs/architecture.md"
    if not page.exists():
        pytest.skip("the documentation is not here")
    named = [
        line.split("`")[1].strip("/").replace("/", ".")
        for line in page.read_text(encoding="utf-8").split("\n")
        if line.startswith("| `")
    ]
    folders = [name for name in named if (SOURCE / name.replace(".", "/")).is_dir()]
    assert [name for name in ORDER if (SOURCE / name.replace(".", "/")).is_dir()] == folders


def test_old_names_that_were_documented_still_import():
    code = "import warnings; warnings.simplefilter('error'); import scdae, {old}"
    from scdae._moved import MOVED

    for old, new in MOVED.items():
        with pytest.warns(DeprecationWarning, match=f"is now {new}"):
            module = __import__(old, fromlist=["x"])
        assert module.__all__ and all(hasattr(module, name) for name in module.__all__)
        sys.modules.pop(old)
    done = subprocess.run([sys.executable, "-c", code.format(old="scdae.posterior")], capture_output=True, text=True)
    assert "DeprecationWarning" in done.stderr


def untyped(path):
    """Arrays that a module makes in JAX without saying of which type: a switch of JAX would decide."""
    makers = {"zeros": 1, "ones": 1, "empty": 1, "eye": 1, "full": 2, "arange": 3, "linspace": 3}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("jnp."):
            places = makers.get(ast.unparse(node.func).removeprefix("jnp."))
            if places and len(node.args) <= places and not any(word.arg == "dtype" for word in node.keywords):
                yield f"{path.name}:{node.lineno}"


def test_every_array_made_in_jax_has_a_type():
    assert [where for path in MODULES.values() for where in untyped(path)] == []


def test_an_array_without_a_type_is_found(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("jnp.zeros(3)\njnp.arange(2, 5)\njnp.zeros(3, x.dtype)\njnp.arange(3, dtype=jnp.int32)\n")
    assert list(untyped(path)) == ["a.py:1", "a.py:2"]
