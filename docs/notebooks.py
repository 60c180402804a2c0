"""A tutorial as a Jupyter notebook."""

from __future__ import annotations

import re

import jupytext
import nbformat
from page_runner import FENCE


def plain(text: str) -> str:
    """The Markdown of a page with ordinary fences: blocks that the reader does not see are left out."""

    def fence(match: re.Match[str]) -> str:
        if "source=" not in match["options"]:
            return ""
        lines = [line for line in match["code"].splitlines() if "markdown-exec: hide" not in line]
        return "\n".join(["```python", *lines, "```"])

    return FENCE.sub(fence, text)


def notebook(text: str) -> str:
    """The notebook of a page, without outputs.

    Args:
        text: The page as it stands in docs/.

    Returns:
        JSON.

    Raises:
        nbformat.ValidationError: If it is no notebook.
    """
    # a link to another page works only on the site
    unlinked = re.sub(r"\[([^\]]+)\]\((?!https?://)[^)]+\)", r"\1", plain(text))
    made = jupytext.reads(unlinked, fmt="md")
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for place, cell in enumerate(made.cells):
        cell["id"] = f"cell{place}"  # the same in every build
    made.nbformat_minor = 5
    nbformat.validate(made)
    return jupytext.writes(made, fmt="ipynb")
