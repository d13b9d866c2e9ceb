"""Which class does the check that an operator asked for?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pylb.check.agent import AgentProbe
from pylb.check.grpc import GrpcProbe
from pylb.check.http import HttpProbe
from pylb.check.interface import IHealthCheck
from pylb.check.program import ProgramProbe
from pylb.check.stream import TcpProbe, UdpProbe
from pylb.model import AgentCheck, ExecCheck, GrpcCheck, HealthCheck, HttpCheck, OwnCheck, TcpCheck, UdpCheck
from pylb.words import raised

__all__ = ["make_check"]


def _own(spec: OwnCheck) -> IHealthCheck:
    try:
        own: IHealthCheck = spec.own()
    except (Exception, SystemExit) as error:
        raise ValueError(f"health check {spec.name} cannot be made: {raised(error)}") from error
    return own


_KINDS: Mapping[type[Any], Callable[[Any], IHealthCheck]] = {
    HttpCheck: HttpProbe,
    TcpCheck: TcpProbe,
    UdpCheck: UdpProbe,
    GrpcCheck: GrpcProbe,
    ExecCheck: ProgramProbe,
    AgentCheck: AgentProbe,
    OwnCheck: _own,
}


def make_check(spec: HealthCheck) -> IHealthCheck:
    """A check of one server; raises ValueError if somebody's own cannot be made."""
    return _KINDS[type(spec)](spec)
