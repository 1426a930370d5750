"""How Sphinx builds the site (`make docs`). Its source is the repository: links work as they do on GitHub."""

import re
from importlib.metadata import version as installed
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.ext.napoleon import NumpyDocstring

project = "galprote"
author = "the galprote authors"
copyright = "the galprote authors"
release = version = installed("galprote")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
root_doc = "docs/index"
include_patterns = ["docs/**", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md"]
exclude_patterns = [
    ".*",
    "build",
    "output",
    "typings",
    "tests",
    "model",
    "pipeline",
    "workflows",
    "docs/_extra",
    "docs/_static",
]
needs_sphinx = "8.0"

# Markdown, and a notebook that is shown as it was saved: a test executes it.
myst_heading_anchors = 5
myst_enable_extensions = ["deflist"]
nb_execution_mode = "off"
smartquotes = False

# Docstrings are numpydoc's.
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
default_role = "literal"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False
napoleon_use_ivar = False

# Indented blocks are commands: tests/doc_blocks.py.
highlight_language = "bash"
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_extra"]  # index.html, which leads to the home page
html_title = f"galprote {release}"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}


#: Docstrings of attributes as they stand in the code.
_raw: dict[str, list[str]] = {}


def _keep(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Before napoleon, which takes words before a colon for the type of an attribute."""
    if what in ("attribute", "property"):
        _raw[name] = list(lines)


def _put_back(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """After it."""
    if name in _raw:
        lines[:] = NumpyDocstring(_raw.pop(name), app.config, app, "method", name, obj, options).lines()


def check_nothing_comes_from_elsewhere(site: Path) -> None:
    """The site is read without a network: no script, style, font or image comes from another host.

    Raises
    ------
    ExtensionError
        Names the page that loads something.
    """
    loads = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=\"(?:\w+:)?//[^\"]*\"")
    refers = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//")
    for pattern, ending in ((loads, "html"), (refers, "css")):
        for page in sorted(site.rglob(f"*.{ending}")):
            if found := pattern.search(page.read_text(encoding="utf-8")):
                raise ExtensionError(f"{page.relative_to(site)} loads from another host: {found[0][:200]}")


def _check(app: Sphinx, error: Exception | None) -> None:
    if error is None:
        check_nothing_comes_from_elsewhere(Path(app.outdir))


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _keep, priority=499)
    app.connect("autodoc-process-docstring", _put_back, priority=501)
    app.connect("build-finished", _check)
