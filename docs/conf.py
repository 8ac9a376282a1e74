"""Sphinx configuration."""

import os
import shutil
from importlib.metadata import metadata
from pathlib import Path

import latex2mathml.converter
from docutils import nodes

here = Path(__file__).parent
info = metadata("scdae")

project = info["Name"]
author = "the scdae developers"
copyright = f"2026, {author}"
version = release = info["Version"]

# The notebooks live beside the documentation, as files to open and run. Sphinx reads below docs/ only.
shutil.copytree(here.parent / "tutorials", here / "tutorials", dirs_exist_ok=True)

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "_static/*.md", "**.ipynb_checkpoints"]
default_role = "py:obj"

# Links into other projects need the network, which a build elsewhere may not have.
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


def setup(app):
    """Register the renderer of formulas."""
    inline = lambda translator, node: _formula(translator, node, "inline"), None
    block = lambda translator, node: _formula(translator, node, "block"), None
    app.add_html_math_renderer("mathml", inline, block)


html_theme = "furo"
html_title = f"{project} {release}"
# Built with sphinx-book-theme as well, pages are as legible, and what each reader loads is 6.7 MB in place of 0.4 MB.
html_static_path = ["_static"]
html_css_files = ["custom.css"]
