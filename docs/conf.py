"""Sphinx settings of the site; `make site` copies this folder, adds what a run left, and builds it."""

import re

import nbkit

project, author, copyright = "nbkit", "the nbkit authors", "the nbkit authors, BSD 3-Clause"
release = version = nbkit.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["*.j2"]
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]

# notebooks are shown as they ran; nothing is fetched from other hosts (no require.js, no widget manager)
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autosummary_generate = False
napoleon_google_docstring = False
napoleon_use_ivar = True
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "nbkit"
html_static_path, html_extra_path = ["_static"], ["extra"]
html_css_files = ["report.css", "site.css"]
html_copy_source = html_show_sourcelink = False
html_show_sphinx = False
html_sidebars = dict.fromkeys(["index", "gallery", "explore", "run", "own_data", "enter", "add_a_paper"], [])
html_theme_options = {
    "header_links_before_dropdown": 8,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "navigation_with_keys": True,
    "search_bar_text": "Search",
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def _as_written(app, what, name, obj, options, lines):
    """Docstrings are plain English: a bar stands for a size, a star that nothing closes for itself."""
    for at, line in enumerate(lines):
        marked = re.sub(r"(``.*?``)|\\?\|", lambda m: m[1] or r"\|", line)
        bare = re.sub("``.*?``", "", line)
        lines[at] = re.sub(r"(?<=[(, ])\*(?=\w)", r"\\*", marked) if not re.search(r"\w\*", bare) else marked


def _not_ours(app, what, name, obj, skip, options):
    """What a class only inherits from a plotting library."""
    return True if str(getattr(obj, "__module__", "")).startswith("matplotlib") else None


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _as_written, priority=400)
    app.connect("autodoc-skip-member", _not_ours)
