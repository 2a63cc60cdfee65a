"""The documentation as a site that loads nothing from the network.

pip install -e ".[docs]"
sphinx-build -W -c docs/site docs build/docs     # then open build/docs/index.html
"""

from itertools import chain
from pathlib import Path
from typing import Any

project = "pfit_ray"
html_title = "pfit_ray"
html_theme = "furo"
html_copy_source = False
html_show_copyright = False
html_show_search_summary = False  # needs a server; the search itself does not
extensions = ["myst_parser"]
exclude_patterns = ["site"]
myst_heading_anchors = 4  # the anchors that code hosts make, too

NAVIGATION = {
    "Start": ["tour", "tutorial", "bucket", "voc2012", "coco2014", "faq"],
    "Use": ["progress", "explorer", "evaluate", "export", "python", "failures"],
    "Method": ["method", "fidelity", "research/results", "research/fidelity"],
    "Scale": ["cluster", "storage", "reliability", "memory", "scaling"],
    "Reference": ["configuration", "formats", "architecture", "extend"],
}
"""The pages of the side bar; pages that are not named here come last."""


def add_navigation(app: Any, page: str, source: list[str]) -> None:
    """Add the side bar's pages to index.md, which stays plain Markdown for those who read it elsewhere."""
    if page == "index":
        named = {"index", *chain.from_iterable(NAVIGATION.values())}
        docs = Path(app.srcdir)
        others = sorted({path.relative_to(docs).with_suffix("").as_posix() for path in docs.rglob("*.md")} - named)
        for caption, pages in {**NAVIGATION, **({"More": others} if others else {})}.items():
            source[0] += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", *pages, "```", ""])


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", add_navigation)
    return {"parallel_read_safe": True}
