"""How does a message show what somebody wrote, and what was probably meant?

Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean", "one_line", "quoted", "quoted_path", "raised", "said"]

_LONGEST_QUOTE = 60
_LONGEST_LINE = 300


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


def one_line(text: str) -> str:
    """What somebody else says, as a log shows it: on one line, printable, not too long."""
    text = text if len(text) <= _LONGEST_LINE else text[:_LONGEST_LINE] + "..."
    return text if text.isprintable() else "".join(map(_printable, text))


def said(it: object) -> str:
    """What an object of somebody else's is as text, on one line, even if it has none."""
    try:
        return one_line(str(it))
    except BaseException as error:  # Somebody's own __str__ may do what it likes.
        return f"(no text: its __str__ raises {type(error).__name__})"


def raised(error: BaseException) -> str:
    """An exception out of somebody else's code, on one line: "OSError: no disk"."""
    return one_line(f"{type(error).__name__}: {said(error)}")


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
