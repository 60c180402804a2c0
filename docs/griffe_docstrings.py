"""Docstrings as griffe reads them: it knows ``Examples:`` and not ``Example:``, and no roles of Sphinx."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Reads ``Example:`` of a docstring as ``Examples:``, and ``:func:`name` `` as the name in code."""

    def on_object(self, *, obj: Object, **_others: Any) -> None:
        """Called by griffe for every object that it reads."""
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
