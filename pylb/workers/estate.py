"""What does every worker inherit?

- The sockets of all workers, the file of the access log, and the memory of the scoreboard.
- Certificates and keys.  They are read once, before privileges are shed, and kept in files without a name, whose paths a
  worker finds in its configuration.  So a worker that is started later has the rights, and the files, of the first.
- Where Python looks for modules, and where the balancing methods and health checks of somebody's own were found.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from mmap import mmap
from pathlib import Path
from typing import Any

from pylb.balance.scoreboard import Scoreboard, places_for
from pylb.model import Certificate, Config, Listener, OwnCheck, PoolSpec, UdpListener
from pylb.proxy.accesslog import AccessLog, NullLog
from pylb.proxy.listen import Bound, close, without
from pylb.words import said
from pylb.workers.wire import Socket, Start

__all__ = ["Estate"]

#: The first descriptor that is not standard input, output or error.
_FIRST = 3
#: No path of a file.
_BOARD = ""


class Estate:
    """What the workers of a configuration inherit: besides what is made here a row of sockets each, and the access log.

    Raises OSError, which names the path, when a file cannot be read, and ValueError for a class that they would not find.
    """

    def __init__(self, config: Config) -> None:
        for name, own in _classes(config):
            _see_found(name, own)
        self._config = config
        self.rows: list[list[Bound]] = []
        self.log: AccessLog | NullLog = NullLog()
        #: Descriptors of files without a name: what was read, by its path, and the scoreboard.
        self._files = {_BOARD: os.memfd_create("pylb")}
        #: What the workers tell one another.
        self.board = self._lay_out()
        #: Where a worker finds modules.
        self.folders = [os.path.abspath(folder) for folder in sys.path] + sorted(set(_homes(config)))
        try:
            _with_paths(config, self._keep)
        except OSError:
            self.close()
            raise

    def close(self, other: Estate | None = None) -> None:
        """Give sockets, log and files back, but for what the `other` has, too; what was shared stays with the workers."""
        close(without(chain(*self.rows), () if other is None else chain(*other.rows)))
        while self._files:
            os.close(self._files.popitem()[1])
        self.rows = []
        if other is None or self.log is not other.log:
            self.log.close()

    def share(self, number: int, beat: float) -> tuple[Start, dict[int, int]]:
        """What the worker with this number is told, and its descriptors by their numbers there."""
        inherited: dict[int, int] = {}

        def give(fd: int) -> int:
            inherited[place := _FIRST + len(inherited)] = fd
            return place

        config = _with_paths(self._config, lambda path: f"/dev/fd/{give(self._files[path])}")
        rows = tuple(
            tuple(Socket(bound.listener.name, bound.address, give(bound.socket.fileno())) for bound in row)
            for row in self.rows
        )
        log = None if self.log.fd is None else give(self.log.fd)
        return Start(number, config, beat, rows, give(self._files[_BOARD]), log), inherited

    def _lay_out(self) -> Scoreboard:
        rows, places = self._config.workers, places_for(self._config.pools.values())
        os.ftruncate(self._files[_BOARD], Scoreboard.size(rows, places))
        return Scoreboard.lay_out(memoryview(mmap(self._files[_BOARD], 0)), rows, places)

    def _keep(self, path: str) -> str:
        if path not in self._files:
            content = Path(path).read_bytes()
            self._files[path] = os.memfd_create("pylb")
            with open(self._files[path], "wb", closefd=False) as copy:
                copy.write(content)
        return path


def _homes(config: Config) -> Iterator[str]:
    """The folders of the balancing methods and health checks of somebody's own."""
    for _, own in _classes(config):
        module: Any = sys.modules[own.__module__.partition(".")[0]]
        file = Path(module.__file__).absolute()
        yield str(file.parents[file.name == "__init__.py"])


def _classes(config: Config) -> Iterator[tuple[str, Any]]:
    """The balancing methods and health checks of somebody's own, by their names."""
    for pool in config.pools.values():
        if pool.balance.own is not None:
            yield pool.balance.method, pool.balance.own
        for check in pool.health_check:
            if isinstance(check, OwnCheck):
                yield check.name, check.own


def _see_found(name: str, own: Any) -> None:
    try:
        pickle.dumps(own)
    except Exception as error:
        why = f"its module must know the class under the name that the class has itself ({said(error)})"
        raise ValueError(f"{name} cannot be found by several workers: {why}") from error


def _with_paths(config: Config, renamed: Callable[[str], str]) -> Config:
    """The same configuration, with other paths of files, and in plain dicts, which can be sent."""
    return replace(
        config,
        pools={name: _pool(pool, renamed) for name, pool in config.pools.items()},
        listeners={name: _listener(listener, renamed) for name, listener in config.listeners.items()},
    )


def _pool(pool: PoolSpec, renamed: Callable[[str], str]) -> PoolSpec:
    if pool.tls is None or pool.tls.ca is None:
        return pool
    return replace(pool, tls=replace(pool.tls, ca=renamed(pool.tls.ca)))


def _listener(listener: Listener, renamed: Callable[[str], str]) -> Listener:
    if isinstance(listener, UdpListener) or listener.tls is None:
        return listener
    pairs = tuple(Certificate(cert=renamed(pair.cert), key=renamed(pair.key)) for pair in listener.tls.certificates)
    return replace(listener, tls=replace(listener.tls, certificates=pairs))
