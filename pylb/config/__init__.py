"""Text or a dict in, a `Config` or every mistake in it out.

sources reads the files, schema looks at each part, rules at what the parts must agree on.
"""

from __future__ import annotations

from collections.abc import Mapping

from pylb.config.mistakes import ConfigError, Mistake
from pylb.config.sources import Sources
from pylb.model import Config

__all__ = ["ConfigError", "Mistake", "from_dict", "load"]


def load(path: str) -> Config:
    """The configuration in the file `path` and the files that it includes; raises ConfigError."""
    return _built(Sources.of_file(path))


def from_dict(data: Mapping[str, object], origin: str = "dict") -> Config:
    """The configuration in a mapping with a file's keys; raises ConfigError, whose mistakes have paths but no lines."""
    return _built(Sources.of_mapping(data, origin))


def _built(sources: Sources) -> Config:
    # pydantic, which this imports, costs 180 ms.
    from pylb.config.build import build

    return build(sources)
