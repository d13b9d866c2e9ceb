"""A zone of DNS whose records a test changes, served by twisted.names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.names import dns
from twisted.names.authority import FileAuthority
from twisted.names.common import ResolverBase

__all__ = ["Zone"]


class Zone(FileAuthority):
    """The zone "test"."""

    def __init__(self) -> None:
        ResolverBase.__init__(self)
        start = dns.Record_SOA(mname=b"ns.test", rname=b"admin.test", minimum=1, ttl=1)
        self.soa = (b"test", start)
        self.records: dict[bytes, list[Any]] = {b"test": [start]}
        #: What comes of every question in the place of an answer.
        self.instead: Callable[[], Deferred[Any]] | None = None

    def query(self, query: dns.Query, timeout: Any = None) -> Deferred[Any]:
        return self.instead() if self.instead else super().query(query, timeout)

    def has(self, name: bytes, *hosts: str) -> None:
        self.records[name] = [dns.Record_A(host, ttl=1) for host in hosts]

    def offers(self, service: bytes, *targets: tuple[int, int, int, bytes]) -> None:
        """The servers of a service: priority, weight, port and name."""
        self.records[service] = [dns.Record_SRV(*target, ttl=1) for target in targets]
