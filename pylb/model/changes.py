"""In what do two configurations differ?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

from pylb.model.config import Config

__all__ = ["changes"]


def changes(before: Config, after: Config) -> Iterator[str]:
    """Each difference in words: `pools.web changed`, `listeners.dns added`, `access_log changed`."""
    for field in fields(Config):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if isinstance(old, Mapping):
            yield from (f"{field.name}.{what}" for what in _of_mappings(old, new))
        elif old != new:
            yield f"{field.name} changed"


def _of_mappings(before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[str]:
    for name in {**before, **after}:
        if name not in before:
            yield f"{name} added"
        elif name not in after:
            yield f"{name} removed"
        elif before[name] != after[name]:
            yield f"{name} changed"
