"""Google's guide says ``Example:``, griffe knows ``Examples:``: without this, prompts would be taken for quotations."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Reads ``Example:`` of a docstring as ``Examples:``."""

    def on_object(self, *, obj: Object, **_others: Any) -> None:
        """Called by griffe for every object that it reads."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
