"""Which of the usable servers is next?  One module for each way to answer; METHODS makes them by their names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pylb.balance.methods.bounded import Bounded
from pylb.balance.methods.consistent import Consistent
from pylb.balance.methods.first import First
from pylb.balance.methods.hashing import Hash, address_numbers, key_numbers
from pylb.balance.methods.interface import (
    Elsewhere,
    IBalancingMethod,
    IWatchesFailures,
    IWatchesLoad,
    IWatchesTime,
    MakeMethod,
    Tools,
    at_once,
)
from pylb.balance.methods.ketama import Ring
from pylb.balance.methods.least_conn import LeastConn
from pylb.balance.methods.least_time import LeastTime
from pylb.balance.methods.maglev import Table
from pylb.balance.methods.peak_ewma import PeakEwma
from pylb.balance.methods.places import Kind
from pylb.balance.methods.random import RandomOne, RandomTwo, RandomTwoByTime
from pylb.balance.methods.round_robin import RoundRobin
from pylb.balance.server import Server
from pylb.model import Balance
from pylb.words import raised

__all__ = [
    "METHODS",
    "CannotBeMade",
    "Elsewhere",
    "IBalancingMethod",
    "IWatchesFailures",
    "IWatchesLoad",
    "IWatchesTime",
    "Tools",
    "at_once",
    "make_method",
]


class CannotBeMade(ValueError):
    """A method of somebody's own is none; the text says which, and why."""


def _consistent(
    kind: Kind, servers: Sequence[Server], balance: Balance, tools: Tools, before: IBalancingMethod | None
) -> IBalancingMethod:
    if balance.bounded_load is None:
        return Consistent(servers, kind, tools, before)
    return Bounded(servers, kind, tools, balance.bounded_load, before)


METHODS: dict[str, MakeMethod] = {
    "round_robin": lambda servers, balance, tools, before: RoundRobin(servers),
    "least_conn": lambda servers, balance, tools, before: LeastConn(servers),
    "least_time": lambda servers, balance, tools, before: LeastTime(servers, balance, before),
    "peak_ewma": lambda servers, balance, tools, before: PeakEwma(servers, tools.random, balance, before),
    "hash": lambda servers, balance, tools, before: (
        _consistent(Ring, servers, balance, tools, before)
        if balance.consistent
        else Hash(servers, tools.key, key_numbers)
    ),
    "ip_hash": lambda servers, balance, tools, before: Hash(servers, tools.address, address_numbers),
    "random": lambda servers, balance, tools, before: (
        RandomTwoByTime(servers, tools.random, balance, before)
        if balance.two == "least_time"
        else (RandomTwo if balance.two else RandomOne)(servers, tools.random)
    ),
    "maglev": partial(_consistent, Table),
    "first": lambda servers, balance, tools, before: First(servers),
}


def make_method(
    servers: Sequence[Server], balance: Balance, tools: Tools, before: IBalancingMethod | None = None
) -> IBalancingMethod:
    """The method that the operator asked for, over `servers`; `before` is the one that it takes the place of.

    Raises `CannotBeMade`.
    """
    if balance.own is not None:
        return _own(balance, servers)
    return METHODS[balance.method](servers, balance, tools, before)


def _own(balance: Balance, servers: Sequence[Server]) -> IBalancingMethod:
    assert balance.own is not None
    try:
        own: IBalancingMethod = balance.own(servers)
    except (Exception, SystemExit) as error:
        what = f"balancing method {balance.method} cannot be made of a list of servers"
        raise CannotBeMade(f"{what}: {raised(error)}") from error
    return own
