"""Sphinx configuration."""

import dataclasses
import os
import shutil
from importlib.metadata import metadata
from pathlib import Path

import latex2mathml.converter
from docutils import nodes
from sphinx.util import logging

here = Path(__file__).parent
info = metadata("scdae")

project = info["Name"]
author = "the scdae developers"
copyright = f"2026, {author}"
version = release = info["Version"]

# The notebooks live beside the documentation, as files to open and run. Sphinx reads below docs/ only.
shutil.copytree(
    here.parent / "tutorials", here / "tutorials", ignore=shutil.ignore_patterns("*.toml"), dirs_exist_ok=True
)

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "_static/*.md", "**.ipynb_checkpoints", "ruff.toml"]
html_extra_path = ["../tutorials"]  # the notebooks themselves, to download
templates_path = ["_templates"]
default_role = "py:obj"

# Types that signatures name, and where they are documented: links that a build without the network has, too.
TYPES = {
    "anndata.AnnData": "https://anndata.readthedocs.io/en/stable/generated/anndata.AnnData.html",
    "collections.abc.Iterable": "https://docs.python.org/3/library/collections.abc.html#collections.abc.Iterable",
    "collections.abc.Iterator": "https://docs.python.org/3/library/collections.abc.html#collections.abc.Iterator",
    "collections.abc.Mapping": "https://docs.python.org/3/library/collections.abc.html#collections.abc.Mapping",
    "collections.abc.Sequence": "https://docs.python.org/3/library/collections.abc.html#collections.abc.Sequence",
    "jax.Array": "https://docs.jax.dev/en/latest/_autosummary/jax.Array.html",
    "matplotlib.axes.Axes": "https://matplotlib.org/stable/api/_as_gen/matplotlib.axes.Axes.html",
    "matplotlib.figure.Figure": "https://matplotlib.org/stable/api/_as_gen/matplotlib.figure.Figure.html",
    "numpy.ndarray": "https://numpy.org/doc/stable/reference/generated/numpy.ndarray.html",
    "numpy.random.Generator": "https://numpy.org/doc/stable/reference/random/generator.html",
    "os.PathLike": "https://docs.python.org/3/library/os.html#os.PathLike",
    "pandas.DataFrame": "https://pandas.pydata.org/docs/reference/api/pandas.DataFrame.html",
    "pandas.Series": "https://pandas.pydata.org/docs/reference/api/pandas.Series.html",
    "pathlib.Path": "https://docs.python.org/3/library/pathlib.html#pathlib.Path",
    "scipy.sparse.csr_matrix": "https://docs.scipy.org/doc/scipy/reference/generated/scipy.sparse.csr_matrix.html",
}
SHORT = {name.rpartition(".")[2]: name for name in TYPES} | {
    "np.ndarray": "numpy.ndarray",
    "pd.DataFrame": "pandas.DataFrame",
}

# All others need the network, which a build elsewhere may not have.
if os.environ.get("READTHEDOCS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "jax": ("https://docs.jax.dev/en/latest/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "python": ("https://docs.python.org/3", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
    }

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

autosummary_generate = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Notebooks are run by every build, so what a reader sees is what this version does.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_output_stderr = "remove"  # progress and other packages' warnings

# Formulas become MathML, which browsers draw themselves: pages need neither a script nor the network.
html_math_renderer = "mathml"


def _formula(translator, node, display):
    tex = node.astext()
    if display == "block" and "\\\\" in tex:
        tex = rf"\begin{{aligned}}{tex}\end{{aligned}}"
    found = latex2mathml.converter.convert(tex, display=display)
    translator.body.append(found.replace("&#x0007E;", "&#x0223C;"))  # a tilde is set tight, a relation is not
    raise nodes.SkipNode


def _link_of_type(app, env, node, content):
    """Where a type of another package is documented; None for other names."""
    target = node.get("reftarget", "").lstrip("~.")
    address = TYPES.get(SHORT.get(target, target)) if node.get("refdomain") == "py" else None
    return address and nodes.reference("", "", content, internal=False, refuri=address, classes=["external"])


def _check_that_all_is_documented(app, env):
    """A public function, method or setting without an entry is a warning, which fails the build."""
    import scdae
    from scdae.model.posterior import Posterior

    public = {f"scdae.{part}.{name}" for part in scdae.__all__ for name in getattr(getattr(scdae, part), "__all__", ())}
    classes = {
        "scdae.DAE": scdae.DAE,
        "scdae.model.posterior.Posterior": Posterior,
        "scdae.sklearn.Purifier": scdae.sklearn.Purifier,
        "scdae._settings.Settings": type(scdae.settings),
    }
    for path, documented in classes.items():
        ours = [base for base in documented.__mro__ if base.__module__.startswith("scdae")]
        public |= {path} | {f"{path}.{name}" for base in ours for name in vars(base) if not name.startswith("_")}
    fields = {f"scdae.model.posterior.Posterior.{field.name}" for field in dataclasses.fields(Posterior)}
    missing = public - fields - set(env.get_domain("py").objects)
    for name in sorted(missing):
        logging.getLogger(__name__).warning("docs/api.md has no entry for %s", name)


def _link_to_picture(app, what, name, obj, options, lines):
    """Entries of plots lead to their picture."""
    if name.startswith("scdae.pl."):
        place = lines.index("") if "" in lines else len(lines)
        anchor = name.replace(".", "-").replace("_", "-")
        lines[place:place] = ["", f"`Picture in the gallery <../tutorials/plots.html#{anchor}>`__"]


def _link_to_notebook(app, page, template, context, doctree):
    """Pages that are notebooks begin with a link to the file."""
    if page.startswith("tutorials/") and "body" in context:
        name = page.removeprefix("tutorials/") + ".ipynb"
        context["body"] = (
            f'<p class="notebook"><a download href="../{name}">Download this notebook</a></p>{context["body"]}'
        )


def setup(app):
    """Register the renderer of formulas, links to types and notebooks, and a check that everything public has an entry."""
    app.connect("html-page-context", _link_to_notebook)
    app.connect("autodoc-process-docstring", _link_to_picture)
    app.connect("missing-reference", _link_of_type)
    app.connect("env-check-consistency", _check_that_all_is_documented)
    inline = lambda translator, node: _formula(translator, node, "inline"), None
    block = lambda translator, node: _formula(translator, node, "block"), None
    app.add_html_math_renderer("mathml", inline, block)


html_theme = "furo"
html_title = f"{project} {release}"
# Built with sphinx-book-theme as well, pages are as legible, and what each reader loads is 6.7 MB in place of 0.4 MB.
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_logo = html_favicon = "_static/logo.svg"
# The one place of addresses is [project.urls] in pyproject.toml; without a repository there is no link to it.
urls = dict(line.split(", ", 1) for line in info.get_all("Project-URL") or [])
# What is shown where a page is linked to in a chat or a forum; such pictures need a whole address.
myst_html_meta = {
    "property=og:site_name": project,
    "property=og:description": info["Summary"],
    "property=og:image": f"{urls['Documentation']}/en/latest/_static/demo.png",
    "property=og:image:alt": "Heat maps of marker genes by cell type: counts, restored counts and the truth",
    "name=twitter:card": "summary_large_image",
}
if "Repository" in urls:
    html_theme_options = {
        "source_repository": urls["Repository"],
        "source_branch": "main",
        "source_directory": "docs/",
    }
