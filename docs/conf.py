"""The documentation site, built by `sphinx-build -n -W --keep-going -c docs . build/docs`.

The source folder is the root of the repository: the pages are those of the tree, and their links lead to the same places
on the site as in the tree. A link to a file that is no page becomes a download.
"""

import re
from html import escape

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
autodoc_class_signature = "separated"
napoleon_use_rtype = False
# Without a network there is no list of the objects of other libraries. The public ones of the package must be documented.
nitpick_ignore_regex = [("py:.*", r"(?!aligndraw\.).*"), ("py:.*", r"aligndraw\..*\b_\w+")]

html_theme = "furo"
html_title = "aligndraw"
html_additional_pages = {"index": "moved.html"}  # the address of the site itself leads to its first page
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"

linkcheck_timeout = 20


def mathml(self, node: nodes.math | nodes.math_block) -> None:
    """Writes a formula as MathML, which browsers draw without a script or a font from elsewhere."""
    block = isinstance(node, nodes.math_block)
    formula = convert(node.astext(), display="block" if block else "inline")
    if "&</mi>" in formula or "\\" in re.sub(r"<annotation.*?</annotation>", "", formula):
        raise ValueError(f"no MathML for the formula {node.astext()}")
    number = ""
    if block and node["number"]:
        number = f'<span class="eqno">({escape(str(node["number"]))})</span>'
    self.body.append(f'<div class="math">{number}{formula}</div>' if block else formula)
    raise nodes.SkipNode


def literal_formulas(app, what, name, obj, options, lines: list[str]) -> None:
    """Turns the indented paragraphs of a docstring, formulas and examples, into literal blocks."""
    found, before = [], ""
    for i, line in enumerate(lines):
        follows_blank = i > 0 and not lines[i - 1].strip()
        if line.strip() and follows_blank and indent(line) > indent(before):
            found += ["::", ""]
            found[-2] = " " * indent(before) + found[-2]
        found.append(line)
        before = line if line.strip() else before
    lines[:] = found


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def setup(app) -> None:
    app.add_html_math_renderer("mathml", inline_renderers=(mathml, None), block_renderers=(mathml, None))
    app.connect("autodoc-process-docstring", literal_formulas, priority=100)  # before napoleon
