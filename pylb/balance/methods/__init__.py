"""Which of the usable servers is next?  One module for each way to answer; METHODS makes them by their names."""

from __future__ import annotations

from pylb.balance.methods.hashing import Hash, address_numbers, key_numbers
from pylb.balance.methods.interface import IBalancingMethod, IWatchesLoad, MakeMethod, Tools
from pylb.balance.methods.ketama import Consistent
from pylb.balance.methods.least_conn import LeastConn
from pylb.balance.methods.random import RandomOne, RandomTwo
from pylb.balance.methods.round_robin import RoundRobin

__all__ = ["METHODS", "IBalancingMethod", "IWatchesLoad", "Tools"]

METHODS: dict[str, MakeMethod] = {
    "round_robin": lambda servers, balance, tools: RoundRobin(servers),
    "least_conn": lambda servers, balance, tools: LeastConn(servers),
    "hash": lambda servers, balance, tools: (
        Consistent(servers, tools.key) if balance.consistent else Hash(servers, tools.key, key_numbers)
    ),
    "ip_hash": lambda servers, balance, tools: Hash(servers, tools.address, address_numbers),
    "random": lambda servers, balance, tools: (RandomTwo if balance.two else RandomOne)(servers, tools.random),
}
