"""The documentation site, built by `sphinx-build -n -W --keep-going -c docs . build/docs`.

The source folder is the root of the repository: the pages are those of the tree, and their links lead to the same
places on the site as in the tree. A link to a file that is no page becomes a download.
"""

from docutils import nodes
from latex2mathml.converter import convert

import aligndraw

project = "aligndraw"
author = "The aligndraw authors"
copyright = "2026, the aligndraw authors"
version = release = aligndraw.__version__

root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "aligndraw/weights/*/README.md",
    "csrc/README.md",
    "docs/**.md",
    "tests/emulation/README.md",
]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
templates_path = ["_templates"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

default_role = "code"  # of single backticks in docstrings
autodoc_member_order = "bysource"
napoleon_use_rtype = False
# Without a network there is no list of the objects of other libraries. Our own public ones must be documented.
nitpick_ignore_regex = [("py:.*", r"(?!aligndraw\.).*"), ("py:.*", r"aligndraw\..*\b_\w+")]
nitpick_ignore = [("py:class", "aligndraw.data.mapped.MappedCaptions")]  # of a private field

html_theme = "furo"
html_title = "aligndraw"
html_additional_pages = {"index": "moved.html"}  # the address of the site itself leads to its first page
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"

linkcheck_timeout = 20

COLON = "\N{OBJECT REPLACEMENT CHARACTER}"  # while napoleon reads


def mathml(self, node: nodes.math | nodes.math_block) -> None:
    """Writes a formula as MathML, which browsers draw without a script or a font from elsewhere."""
    block = isinstance(node, nodes.math_block)
    formula = convert(node.astext(), display="block" if block else "inline")
    if "\\" in formula or ">&<" in formula:
        raise ValueError(f"the formula has a command that latex2mathml does not know: {node.astext()}")
    self.body.append(f'<div class="math">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def plain_docstring(app, what, name, obj, options, lines: list[str]) -> None:
    """Brings a docstring into the form that napoleon expects."""
    if what == "property":  # "The reader of captions: ..." is a sentence, and its beginning no type
        first = lines.index("") if "" in lines else len(lines)
        lines[:first] = [line.replace(":", COLON) for line in lines[:first]]
    found, before = [], ""
    for i, line in enumerate(lines):
        if line.strip() and i and not lines[i - 1].strip() and indent(line) > indent(before):
            found += [" " * indent(before) + "::", ""]  # an indented paragraph is a formula or an example
        found.append(line)
        before = line if line.strip() else before
    lines[:] = found


def colons_again(app, what, name, obj, options, lines: list[str]) -> None:
    lines[:] = [line.replace(COLON, ":") for line in lines]


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def plain_signature(app, what, name, obj, options, signature, returns):
    """Replaces the default of a field that a function makes, which is no expression."""
    return signature and signature.replace("<factory>", "..."), returns


def setup(app) -> None:
    app.add_html_math_renderer("mathml", inline_renderers=(mathml, None), block_renderers=(mathml, None))
    app.connect("autodoc-process-docstring", plain_docstring, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", colons_again, priority=900)  # after it
    app.connect("autodoc-process-signature", plain_signature)
