"""What stays of a server when its pool is asked for anew?

Whatever is known of it: its failures, its leases, what checks and agents have said.  Who is the same is a matter of the
address.  What the operator now says otherwise counts from now on; what was switched meanwhile stays unless he does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from pylb.balance.server import Server, written_switch
from pylb.model import AgentCheck, HealthCheck, OwnCheck, PoolSpec

__all__ = ["renew", "same"]


def same(present: Iterable[Server], wanted: Iterable[Server]) -> dict[Server, Server]:
    """Of those `wanted` who is `present` already, as whom; in the same order where an address stands twice."""
    known = defaultdict(list)
    for server in present:
        known[server.name].append(server)
    for servers in known.values():
        servers.reverse()
    return {server: known[server.name].pop() for server in wanted if known.get(server.name)}


def renew(server: Server, wanted: Server, before: PoolSpec, spec: PoolSpec) -> None:
    """Let `server` be as `wanted` from now on, in a pool that was `before` and is as `spec` says."""
    old, server.spec, server.missing = server.spec, wanted.spec, wanted.missing
    switch = written_switch(server.spec)
    if switch != written_switch(old):
        server.switch = switch
    if not server.spec.slow_start:
        server.warming_since = None
    if _reporters(before) != _reporters(spec):
        # What was said of the server may have been an agent's word, whom nobody asks any more.
        server.share = 1.0
        server.switch = switch
    if not spec.health_check:
        server.checked = "passed"
    _renew_health(server, spec)


def _reporters(spec: PoolSpec) -> list[HealthCheck]:
    """The checks that may say what a server is to do."""
    return [check for check in spec.health_check if isinstance(check, AgentCheck | OwnCheck)]


def _renew_health(server: Server, spec: PoolSpec) -> None:
    health = server.health
    limit = server.spec.max_fails if spec.outlier is None else spec.outlier.consecutive_errors
    if health.max_fails and limit:
        health.max_fails = limit  # An ejected server stays so.
    health.fail_timeout = server.spec.fail_timeout
    health.in_a_row = False
    if spec.outlier is None:
        health.pause = health.fail_timeout
    if spec.failure_window != "sliding":
        health.recent = None
