"""What does a worker do?

    python -m pylb.workers.worker REACTOR NUMBER

A `LoadBalancer` with the sockets that it has inherited, which does as its supervisor says.  What it would log it tells the
supervisor.  Signals that are meant for the supervisor are blocked from the beginning: Ctrl-C in a terminal reaches all.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import chain
from mmap import mmap
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, eventAsText, globalLogBeginner
from twisted.python.failure import Failure
from twisted.python.reflect import namedAny
from zope.interface import implementer

from pylb.balance.colleagues import Colleagues
from pylb.balance.scoreboard import Scoreboard
from pylb.capacity import raise_descriptor_limit
from pylb.check.findings import Finding, Findings
from pylb.model import Config, InetAddress, UdpListener
from pylb.proxy import resolve
from pylb.proxy.listen import Bound, close
from pylb.service import Inherited, LoadBalancer
from pylb.workers.sessions import News, hear
from pylb.workers.wire import Channel, Socket, Start, receive

__all__ = ["CONTROL", "Telling", "Worker"]

#: The number of the socket that leads to the supervisor.
CONTROL = 0
#: The characters of one text for the log.
LONGEST = 100_000

_log = Logger()


class Worker:
    """Serves as `start` says; `clock` reads monotonic seconds, `make` makes the load balancer."""

    def __init__(
        self,
        start: Start,
        reactor: Any,
        clock: Callable[[], float] = time.monotonic,
        make: Callable[..., LoadBalancer] = LoadBalancer,
    ) -> None:
        self.failed = False
        self._reactor = reactor
        self._rows = [[_bound(start.config, each) for each in row] for row in start.rows]
        board = Scoreboard(memoryview(mmap(start.board, 0)))
        colleagues = Colleagues(board, start.number - 1)
        inherited = Inherited(self._rows[start.number - 1], start.log, colleagues, start.found, start.names)
        self._balancer = make(start.config, reactor, clock, inherited)
        self.channel = Channel(
            {
                "serve": lambda row: self._balancer.serve(self._others(row)),
                "learn": lambda items: hear(self._tables, items),
                "leave": lambda row: self._balancer.leave(self._others(row)),
                "found": lambda *news: self._findings.hear(Finding(*news)),
                "gone": lambda pool, server: self._findings.forget(pool, server),
                "reopen": self._balancer.reopen_log,
                "abort": self._balancer.abort,
                "retire": self._retire,
                "drop": self._drop,
                # Ports that were told to close do so in the next turn.
                "ask": lambda: self._reactor.callLater(0, self.channel.send, "done"),
                "stop": self._stop,
            }
        )
        self._tables = self._balancer.sessions
        hear(self._tables, start.sessions)
        self._news = News(partial(self.channel.offer, "learn"), reactor)
        self._news.gather(self._tables)
        self._row = board.rows[start.number - 1]
        self._heart = LoopingCall(self._beat)
        self._heart.clock = reactor
        self._pace = start.beat
        self._clock = clock

    def start(self) -> None:
        """Begin, in a reactor that runs."""
        self.channel.lost.addCallback(lambda _: self._stop())
        self._heart.start(self._pace)
        self._balancer.ready.addCallbacks(lambda _: self.channel.send("ready"), self._give_up)
        self._balancer.startService()

    def finish(self) -> Deferred[None]:
        """Let what runs finish, and all that was said arrive."""
        stopped = self._balancer.stopService()
        close(chain.from_iterable(self._rows))
        return stopped.addCallback(self._finished)

    def _finished(self, _: object) -> Deferred[None]:
        self._heart.stop()
        self._news.stop()
        return self.channel.close()

    def _beat(self) -> None:
        self._row.heartbeat = self._clock()

    @property
    def _findings(self) -> Findings:
        assert isinstance(self._balancer.checks, Findings)
        return self._balancer.checks

    def _others(self, row: int) -> list[Bound]:
        """What somebody else's row has that our own has not."""
        return [bound for bound in self._rows[row - 1] if isinstance(bound.address, InetAddress)]

    def _retire(self) -> None:
        """Others serve now: end when all that runs has ended, unless the end comes before."""
        retired = self._balancer.retire()
        close(chain.from_iterable(self._rows))
        retired.addCallback(lambda _: self._stop())

    def _drop(self, addresses: list[str]) -> None:
        """Answer no datagrams any more at these addresses, which nobody serves now."""
        datagrams = (bound for bound in chain.from_iterable(self._rows) if isinstance(bound.listener, UdpListener))
        self._balancer.drop(bound for bound in datagrams if str(bound.address) in addresses)

    def _stop(self) -> None:
        with suppress(ReactorNotRunning):  # then it is stopping already
            self._reactor.stop()

    def _give_up(self, failure: Failure) -> None:
        _log.failure("pylb cannot serve", failure)
        self.failed = True
        self._stop()


@implementer(ILogObserver)
class Telling:
    """Tells the supervisor what is to be logged.

    But for what Twisted says of every port, and what we find of names: the supervisor finds it, too, and says it once.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __call__(self, event: LogEvent) -> None:
        level, namespace = event.get("log_level", LogLevel.info), event.get("log_namespace", "")
        if namespace != resolve.__name__ and (level > LogLevel.info or namespace != "log_legacy"):
            text = eventAsText(event, includeTimestamp=False, includeSystem=False)[:LONGEST]
            self._channel.offer("log", level.name, namespace, text)


def _bound(config: Config, inherited: Socket) -> Bound:
    sock = socket.socket(fileno=inherited.fd)
    # It is so already, which Python has to know.
    sock.setblocking(False)
    return Bound(config.listeners[inherited.listener], inherited.address, sock, owns_file=False)


def main(reactor_name: str) -> None:
    """Serve until the supervisor says otherwise, or is gone."""
    namedAny(reactor_name).install()
    from twisted.internet import reactor

    running: Any = reactor
    control = socket.socket(fileno=CONTROL)
    start = receive(control)
    raise_descriptor_limit()
    worker = Worker(start, running)
    control.setblocking(False)
    running.adoptStreamConnection(control.detach(), socket.AF_UNIX, Factory.forProtocol(lambda: worker.channel))
    globalLogBeginner.beginLoggingTo([Telling(worker.channel)])
    running.callWhenRunning(worker.start)
    running.addSystemEventTrigger("before", "shutdown", worker.finish)
    running.run(installSignalHandlers=False)
    sys.exit(worker.failed)


if __name__ == "__main__":
    main(sys.argv[1])
