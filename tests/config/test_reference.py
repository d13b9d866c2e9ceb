"""pylb.config.reference: what the documentation says about keys."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pylb.config import reference
from pylb.config.reference import Entry, entries

PAGE = """
| `before` | flag | `true` | No heading names its mapping. |

## The main file

| key | form | default | meaning |
|---|---|---|---|
| `max` | number | `0` | As many as there are. |

## `pools.*` (http and tcp)

| `list` | list | `[a, b]` | `a` \\| `b`. |

| method | meaning |
| `first` | No key. |

## `pools.*` (every protocol)

| `time` | duration | the other's | One of two. |

## Not about keys

| `after` | flag | `true` | The section is over. |
"""


class EntriesTests(SynchronousTestCase):
    def test_entries(self) -> None:
        """Rows of four below a heading that names a mapping; a default is read as a file's value, or is prose."""
        page = Path(self.mktemp())
        page.write_text(PAGE)
        self.patch(reference, "_PAGE", page)
        self.assertEqual(
            [
                Entry("max", frozenset(), 0, "As many as there are."),
                Entry("pools.*.list", frozenset({"http", "tcp"}), ["a", "b"], "`a` \\| `b`."),
                Entry("pools.*.time", frozenset(), None, "One of two."),
            ],
            list(entries()),
        )

    def test_page(self) -> None:
        """The page is docs/configuration.md itself."""
        page = Path(__file__).parents[2] / "docs" / "configuration.md"
        self.assertTrue(reference._PAGE.samefile(page))
        self.assertIn("`pools.*.keepalive`", page.read_text())
        self.assertIn("pools.*.keepalive.connections", {entry.path for entry in entries()})
