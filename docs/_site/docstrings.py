"""What the site makes of docstrings: the six questions become a list."""

from __future__ import annotations

import re
from typing import Any

import griffe

QUESTION = re.compile(
    r"^(Emits when|Waits when|Ends when|Waits when, on cancel, raises|On cancel|Holds): ", re.MULTILINE
)


class Questions(griffe.Extension):
    """Set what a docstring answers as a list, and call an example what Google's form calls it."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the text before it is parsed."""
        if obj.docstring is None:
            return
        lines = obj.docstring.value.split("\n")
        out: list[str] = []
        for line in lines:
            if QUESTION.match(line) and out and out[-1].strip() and not out[-1].startswith(("- **", "  ")):
                out.append("")
            out.append(QUESTION.sub(r"- **\1:** ", line))
        text = "\n".join(out)
        obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
