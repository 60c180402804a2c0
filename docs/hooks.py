"""What `make docs` does beside MkDocs: pages are run before the build, tutorials are given as notebooks, too."""

from __future__ import annotations

import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

from markdown_exec import base_format, formatters
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).resolve().parent))
import notebooks
import page_runner

PREVIEW = "UNIMIX_DOCS_PREVIEW" in os.environ
"""`make preview` builds the site without running anything: pages without a fresh record say so in place of output."""


class Records:
    """Answers markdown-exec with what the blocks of the page in hand printed when they were run."""

    def __init__(self) -> None:
        self.page = ""
        self.kept: list[tuple[page_runner.Block, str]] = []

    def turn_to(self, page: Path, markdown: str) -> None:
        """Take the record of a page."""
        self.page = str(page)
        found = page_runner.blocks(markdown)
        record = page_runner.fresh(page) if found else {"outputs": []}
        if record is None and PREVIEW:
            record = {"outputs": ["(not run for the preview)"] * len(found)}
        if record is None:
            raise PluginError(f"{page} has changed since its code was run.")
        self.kept = list(zip(found, record["outputs"], strict=True))

    def output(self, code: str, session: str | None = None, **_extra: Any) -> str:
        """What a block printed; each is asked for once."""
        for place, (block, printed) in enumerate(self.kept):
            if block.code.strip() == code.strip() and block.session == (session or ""):
                del self.kept[place]
                return printed
        raise PluginError(f"{self.page} has a block that page_runner.py does not find:\n\n{code}")


RECORDS = Records()


def on_config(config: Any) -> Any:
    """Run the pages that have changed."""
    failed = [] if PREVIEW else page_runner.bring_up_to_date(page_runner.pages(), workers=2)
    if failed:
        raise PluginError("\n\n".join(failed))
    formatters["python"] = partial(base_format, language="python", run=RECORDS.output)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the notebooks of the tutorials."""
    for page in sorted((page_runner.DOCS / "tutorials").glob("*.md")):
        text = notebooks.notebook(page.read_text(encoding="utf-8"))
        name = f"tutorials/{page.stem}.ipynb"
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_others: Any) -> str:
    """Turn to the record of a page; under the title of a tutorial stands where its notebook is."""
    source = Path(page.file.abs_src_path) if page.file.abs_src_path else None
    if source is not None:
        RECORDS.turn_to(source, source.read_text(encoding="utf-8"))
        if source.parent.name == "tutorials":
            link = f"[Download this page as a notebook]({source.stem}.ipynb){{ .notebook }}"
            return re.sub(r"^# .*$", lambda title: f"{title[0]}\n\n{link}", markdown, count=1, flags=re.MULTILINE)
    return markdown
