"""How does a message show what somebody wrote, and what was probably meant?

Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean", "quoted", "quoted_path"]

_LONGEST_QUOTE = 60


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """`, did you mean "weight"?` if `word` resembles one of the `known`, else nothing."""
    near = get_close_matches(word, list(known), n=1) if isinstance(word, str) else []
    return f", did you mean {quoted(near[0])}?" if near else ""


def quoted(value: object) -> str:
    """A value as a message shows it: on one line, printable, not too long."""
    text = str(value)
    return quoted_path(text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "...")


def quoted_path(path: str) -> str:
    """A file's name as a message shows it: whole, however long, so that it can be found."""
    return json.dumps(path, ensure_ascii=not path.isprintable())
