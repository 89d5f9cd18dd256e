"""Configuration of Sphinx. It builds without a network: no intersphinx."""

from importlib.metadata import version as installed_version

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from flask_taskq.jobs.transitions import TRANSITIONS

project = "flask_taskq"
copyright = "2026 flask_taskq contributors"
author = "flask_taskq contributors"
version = release = installed_version("flask-taskq")

extensions = ["sphinx.ext.autodoc", "pallets_sphinx_themes"]
exclude_patterns = ["_build"]
nitpicky = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_preserve_defaults = True

html_theme = "flask"
html_title = f"flask_taskq {version}"
html_show_sourcelink = False
html_show_copyright = False
html_copy_source = False


class Transitions(Directive):
    """The table of transitions, from the code that acts by it."""

    heads = ["what happens", "from", "to", "by", "if"]

    def run(self) -> list[nodes.Node]:
        table = nodes.table()
        group = nodes.tgroup(cols=len(self.heads))
        group += [nodes.colspec(colwidth=1) for _ in self.heads]
        head, body = nodes.thead(), nodes.tbody()
        head += self.row(self.heads)
        for row in TRANSITIONS:
            texts = [row.name, row.source or "", row.target or "", row.by, row.guard]
            body += self.row(texts)
        group += [head, body]
        table += group
        return [table]

    @staticmethod
    def row(texts: list[str]) -> nodes.row:
        row = nodes.row()
        row += [nodes.entry("", nodes.paragraph(text=str(text))) for text in texts]
        return row


def setup(app: Sphinx) -> None:
    app.add_directive("transitions", Transitions)
