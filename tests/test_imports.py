"""Which way do the imports run?

`tap -> program, cli -> workers -> service -> ports -> fronts, pools -> admin, check, proxy -> balance -> model`;
`config -> model`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PACKAGE = Path(__file__).parent.parent / "pylb"

#: What each part of pylb may import besides itself.
BOTTOM = {"model", "variables", "words"}
PROXY = {"balance", *BOTTOM}
BESIDE = {"proxy", *PROXY}
SERVICE = {
    "admin",
    "announce",
    "background",
    "check",
    "capacity",
    "config",
    "fortunes",
    "fronts",
    "pools",
    "ports",
    "reloads",
    *BESIDE,
}
WORKERS = {"service", "signals", *SERVICE}
TOP = {"workers", *WORKERS}
MAY_IMPORT: dict[str, set[str]] = {
    "model": set(),
    "variables": {"words"},
    "words": set(),
    "config": BOTTOM,
    "balance": BOTTOM,
    "announce": {"capacity", "proxy", "model"},
    "background": set(),
    "capacity": {"model"},
    "fortunes": {"balance", "model"},
    "fronts": {"capacity", *BESIDE},
    "pools": BESIDE,
    "ports": {"fronts", *BESIDE},
    "reloads": {"model"},
    "proxy": PROXY,
    "check": BESIDE,
    "admin": {"check", *BESIDE},
    "service": SERVICE,
    "workers": WORKERS,
    "program": {"demo", *TOP},
    "signals": set(),
    "tap": {"program", "signals"},
    "cli": {"demo", *TOP},
    "demo": TOP,
}

#: balance/ and model/ decide; what reads the clock, waits, or tells is for others.
IMPURE = {"logging", "socket", "threading", "time"}
PURE_PARTS = {"balance", *BOTTOM}


def imports(path: Path) -> Iterator[str]:
    """The full names of the modules (or of the names in them) that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def part(name: str) -> str:
    """The part of pylb that a module belongs to: `pylb.proxy.tcp` to `proxy`, `pylb` and its names to ``."""
    words = name.split(".")
    return words[1] if len(words) > 1 else ""


def module_name(path: Path) -> str:
    """`pylb.proxy.tcp` for pylb/proxy/tcp.py, `pylb.proxy` for pylb/proxy/__init__.py."""
    words = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(words[:-1] if words[-1] == "__init__" else words)


MODULES = {module_name(path): sorted(set(imports(path))) for path in sorted(PACKAGE.rglob("*.py"))}


def edges(*parts: str) -> Iterator[tuple[str, str]]:
    """Each import in these parts of pylb (all if none is named)."""
    for module, names in MODULES.items():
        if part(module) in parts or not parts:
            yield from ((module, name) for name in names)


class ImportTests(SynchronousTestCase):
    def test_there_are_modules(self) -> None:
        """The files were found and read."""
        self.assertIn("dataclasses.dataclass", MODULES["pylb.model.pool"])

    def test_every_part_has_a_place(self) -> None:
        """A new part of pylb is given its place in MAY_IMPORT."""
        self.assertEqual({part(module) for module in MODULES} - {""} - MAY_IMPORT.keys(), set())

    def test_direction(self) -> None:
        """No part imports one that is above it or beside it."""
        wrong = [
            f"{module} imports {name}"
            for module, name in edges(*MAY_IMPORT)
            if name.startswith("pylb.")
            and part(name) in MAY_IMPORT
            and part(name) not in {part(module), *MAY_IMPORT[part(module)]}
        ]
        self.assertEqual(wrong, [])

    def test_protocols_are_strangers(self) -> None:
        """tcp, udp and http never import one another."""
        protocols = {f"pylb.proxy.{protocol}" for protocol in ("tcp", "udp", "http")}
        wrong = [
            f"{module} imports {name}"
            for module, name in edges("proxy")
            if (own := belongs(module, protocols)) and (other := belongs(name, protocols)) and own != other
        ]
        self.assertEqual(wrong, [])

    def test_decisions_are_pure(self) -> None:
        """What decides imports the pure part of the standard library and zope.interface only."""
        wrong = [
            f"{module} imports {name}"
            for module, name in edges(*PURE_PARTS)
            if not name.startswith(("pylb.", "zope.interface"))
            and ((top := name.split(".")[0]) in IMPURE or top not in sys.stdlib_module_names)
        ]
        self.assertEqual(wrong, [])

    def test_absolute(self) -> None:
        """Imports are absolute."""
        self.assertEqual([edge for edge in edges() if edge[1].startswith(".")], [])


def belongs(name: str, protocols: set[str]) -> str | None:
    """The protocol that a module is, or is a part of."""
    return next((protocol for protocol in protocols if f"{name}.".startswith(f"{protocol}.")), None)
