"""What does one written value mean?

Every function takes what a document holds (text, an integer, from Python also a float) and returns what the model wants, or
raises ValueError with a text that says what is wrong.  Nothing is looked up, opened or guessed.

- Durations: `500ms`, `5s`, `1m30s`, `1h`, `2d`; units from large to small, each at most once; a bare number is seconds.
- Sizes: `512`, `16k`, `10m`, `1g`, by 1024.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pylb.words import quoted

__all__ = [
    "DURATION",
    "LARGEST",
    "PERMISSIONS",
    "SECONDS",
    "SIZE",
    "choice",
    "duration",
    "factor",
    "flag",
    "matching",
    "number_text",
    "permissions",
    "shortened",
    "size",
    "text",
    "whole",
]

DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII)
_MILLISECONDS = (86_400_000, 3_600_000, 60_000, 1000, 1)
SECONDS = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)
_LONGEST_DURATION = 365 * 86400
SIZE = re.compile(r"(\d{1,18})([kmgKMG]?)", re.ASCII)
_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_LARGEST_SIZE = 2**63 - 1
LARGEST = 2**31 - 1
PERMISSIONS = re.compile(r"0[0-7]{3}")
_WORDS = {"on": "true", "yes": "true", "true": "true", "off": "false", "no": "false", "false": "false"}


def text(value: object) -> str:
    """Any text but the empty one."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be text, not {_shown(value)}")
    return value


def flag(value: object) -> bool:
    """`true` or `false`, and no other word."""
    if isinstance(value, bool):
        return value
    meant = _WORDS.get(value.lower()) if isinstance(value, str) else None
    hint = f", write {meant}" if meant else ""
    raise ValueError(f"must be true or false, not {_shown(value)}{hint}")


def whole(least: int, most: int = LARGEST) -> Callable[[object], int]:
    """A reader of whole numbers from `least` to `most`."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {_shown(value)}")
        if not least <= value <= most:
            raise ValueError(f"must be from {least} to {most}, not {number_text(value)}")
        return value

    return read


def choice(*known: str) -> Callable[[object], str]:
    """A reader of one of the words `known`."""

    def read(value: object) -> str:
        if isinstance(value, str) and value in known:
            return value
        raise ValueError(f"must be {' or '.join(map(quoted, known))}, not {_shown(value)}")

    return read


def matching(pattern: re.Pattern[str], problem: str) -> Callable[[object], str]:
    """A reader of text that `pattern` describes as a whole; `problem` says what is wrong with `%s`, another one."""

    def read(value: object) -> str:
        written = text(value)
        if not pattern.fullmatch(written):
            raise ValueError(problem % quoted(written))
        return written

    return read


def factor(value: object) -> float:
    """A number from 1 to 1000, perhaps with a fraction."""
    number = float(value) if isinstance(value, str) and SECONDS.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError(f"must be a number such as 1.25, not {_shown(value)}")
    if not 1 <= number <= 1000:
        raise ValueError(f"must be from 1 to 1000, not {_shown(value)}")
    return float(number)


def duration(value: object) -> float:
    """Seconds."""
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError(f"must be a duration such as 500ms, 5s or 1m30s, not {_shown(value)}")
    if not 0 <= seconds <= _LONGEST_DURATION:
        raise ValueError(f"must be from 0 to 365d, not {_shown(value)}")
    return seconds


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, int):
        return float(max(-1, min(value, LARGEST)))
    if isinstance(value, float):
        return value
    if SECONDS.fullmatch(value):
        return float(value)
    return _with_units(value)


def _with_units(value: str) -> float | None:
    match = DURATION.fullmatch(value) if 0 < len(value) <= 60 else None
    if match is None:
        return None
    parts = zip(match.groups(default="0"), _MILLISECONDS, strict=True)
    return sum(int(digits) * unit for digits, unit in parts) / 1000


def size(value: object) -> int:
    """Bytes."""
    match = SIZE.fullmatch(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None
    if match is None:
        raise ValueError(f"must be a size such as 512, 16k, 10m or 1g, not {_shown(value)}")
    size = int(match[1]) * _BYTES[match[2].lower()]
    if size > _LARGEST_SIZE:
        raise ValueError(f"must be below 8 EiB, not {_shown(value)}")
    return size


def permissions(value: object) -> int:
    """Permission bits written as in `chmod 0660`."""
    if not isinstance(value, str) or not PERMISSIONS.fullmatch(value):
        raise ValueError(f'must be four octal digits such as "0660", not {_shown(value)}')
    return int(value, 8)


def _shown(value: object) -> str:
    """A value in a message: text in quotes, so that `5` and `"5"` differ."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    return number_text(value) if isinstance(value, int | float) else f"a {type(value).__name__}"


def number_text(value: float) -> str:
    """A number in a message."""
    # int() of Python refuses to write more than 4300 digits.
    return shortened(repr(value)) if isinstance(value, float) or abs(value) < 10**60 else "a number that large"


def shortened(digits: str) -> str:
    """Digits in a message: not all, if there are too many."""
    return digits if len(digits) <= 60 else digits[:60] + "..."
