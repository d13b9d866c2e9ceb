"""pylb that checks servers, and what it says of them; a server is whatever has an address."""

from __future__ import annotations

import re
from typing import Any

from tests.backends import until
from tests.functional.rig import Program, Rig

__all__ = ["CheckedRig"]


class CheckedRig(Rig):
    """`program` is pylb, whose pool "p" is checked."""

    program: Program

    def changes(self, server: Any) -> list[str]:
        """What the server has become, in order."""
        return [state for state, _ in self.log(server)]

    def log(self, server: Any) -> list[tuple[str, str]]:
        """What the log says of the server, in order: what it is, and why."""
        return re.findall(rf"pool p: {re.escape(server.address)} is (\S+): (.*)", self.program.said)

    async def changed(self, server: Any, *changes: str) -> None:
        """Wait until the server has become this, and nothing else."""
        await until(lambda: self.changes(server) == list(changes))
