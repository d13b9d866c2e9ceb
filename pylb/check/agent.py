"""What does a server's agent say of it?

The words are those of HAProxy's agent-check (its configuration manual, 5.2): one line, words between spaces, commas or tabs,
in capitals or not, and everything behind `#` is for people, in the log.

- `75%`: its share of the weight that it has in the configuration.
- `up`: it is healthy; `ready`: it serves, `drain`: only those that belong to it, `maint`: nobody.
- `down`, `fail`, `stopped`: it is unhealthy, and why.
- `maxconn:30`: passed over, for `max_conns` is what the configuration says.

What is not said stays as it was.  An agent that is not there, or says what nobody understands, is a check that fails.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from zope.interface import implementer

from pylb.balance.server import Switch
from pylb.check.interface import MOST_SHARE, IHealthCheck, Report, Unhealthy
from pylb.check.target import Target
from pylb.model import AgentCheck

__all__ = ["AgentProbe", "read_line"]

_END = re.compile(rb"[\r\n]")
_PERCENTAGE = re.compile(r"\d{1,6}%", re.ASCII)
_SWITCHES: Mapping[str, Switch] = {"ready": "up", "drain": "drain", "maint": "down"}
_PASSED_OVER = re.compile(r"up|maxconn:\d{1,9}%?", re.ASCII)
_DOWN = frozenset({"down", "fail", "stopped"})


@implementer(IHealthCheck)
class AgentProbe:
    """Connects to the agent, sends what it wants to be sent, and reads its line."""

    def __init__(self, spec: AgentCheck) -> None:
        self._send = spec.send

    async def check(self, target: Target) -> Report:
        conversation = await target.connect(encrypted=False)
        if self._send:
            conversation.write(self._send)
        line = await conversation.until(lambda data: _first_line(data, conversation.ended))
        return read_line(line.decode("latin-1"))


def _first_line(data: bytes, ended: bool) -> bytes | None:
    end = _END.search(data)
    return data[: end.start()] if end else data if ended and data else None


def read_line(line: str) -> Report:
    """What an agent's line says; raises Unhealthy if it says that, or nothing that is known."""
    said, _, behind = line.partition("#")
    why = behind.strip()
    share: float | None = None
    switch: Switch | None = None
    words = said.replace(",", " ").lower().split()
    for word in words:
        if word in _DOWN:
            raise Unhealthy(f"its agent says {word}{f': {why}' if why else ''}")
        if word in _SWITCHES:
            switch = _SWITCHES[word]
        elif _PERCENTAGE.fullmatch(word):
            share = min(int(word[:-1]) / 100, MOST_SHARE)
        elif not _PASSED_OVER.fullmatch(word):
            raise Unhealthy(f"its agent says nothing that is known: {line[:60]!r}")
    if not words:
        raise Unhealthy("its agent says nothing")
    return Report(share, switch, why)
