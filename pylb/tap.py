"""What does `twistd pylb` make of its command line?

Everything that can be wrong is found here, before twistd forks or sheds privileges: it is said in plain text on standard
error, with exit status 1, and nothing has started.
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from OpenSSL import SSL
from twisted.application.service import IService, MultiService, Service
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from pylb.capacity import raise_descriptor_limit
from pylb.config import ConfigError, load
from pylb.model import Config
from pylb.proxy.listen import BindError
from pylb.service import LoadBalancer
from pylb.workers.supervisor import Supervisor

__all__ = ["Options", "makeService"]

_log = Logger()


class Options(usage.Options):
    """The options of `twistd pylb`."""

    synopsis = "[--config FILE] [--demo]"
    optParameters = [["config", "c", "etc/lb.yaml", "The configuration file."]]
    optFlags = [["demo", None, "Also start a small backend on each address of the pools."]]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            # Left alone, this would print a page of twistd's options and then the error.
            raise SystemExit(
                f'twistd pylb: {error} (twistd\'s own options come before "pylb"; see twistd pylb --help)'
            ) from None

    def parseArgs(self, *arguments: str) -> None:
        if arguments:
            raise usage.UsageError(f'unexpected "{arguments[0]}", did you mean --config {arguments[0]}?')


def makeService(options: Options) -> IService:
    """The load balancer that `options` ask for, with every socket bound."""
    path = os.path.abspath(options["config"])
    raise_descriptor_limit()
    try:
        config = load(path)
        if config.access_log and config.access_log.path == "-" and not _in_foreground(options):
            raise SystemExit(f"{path}: access_log.path: a daemon has no standard output: name a file, or use twistd -n")
        _log.info("configuration {path}", path=path)
        return _services(_balancer(config), options["demo"])
    except (ConfigError, BindError) as error:
        raise SystemExit(str(error)) from None
    except OSError as error:
        raise SystemExit(f"{path}: cannot open {error.filename}: {error.strerror or error}") from None
    except (ValueError, SSL.Error) as error:
        raise SystemExit(f"{path}: {error}") from None


def _balancer(config: Config) -> LoadBalancer | Supervisor:
    from twisted.internet import reactor

    return LoadBalancer(config, reactor) if config.workers == 1 else Supervisor(config, reactor)


def _services(balancer: LoadBalancer | Supervisor, demo: bool) -> IService:
    services = MultiService()
    # Services start in this order: from the first look-up on a signal finds its answer.
    Signals(balancer, balancer.reactor).setServiceParent(services)
    balancer.setServiceParent(services)
    if demo:
        from pylb.demo import Demo

        try:
            Demo(balancer).setServiceParent(services)
        except BindError:
            balancer.close()
            raise
    balancer.ready.addErrback(_give_up, balancer.reactor)
    return services


def _give_up(failure: Failure, reactor: Any) -> None:
    _log.failure("pylb cannot serve", failure)
    # twistd has no exit status but 0 for a reactor that was stopped; whoever restarts what failed must see another.
    atexit.register(os._exit, 1)
    reactor.callWhenRunning(reactor.stop)


def _in_foreground(options: Options) -> bool:
    return bool(options.parent and options.parent.get("nodaemon"))


class Signals(Service):
    """SIGTERM and SIGINT stop the reactor, the second one cuts what still runs; SIGUSR1 reopens the access log."""

    def __init__(self, balancer: LoadBalancer | Supervisor, reactor: Any) -> None:
        self._balancer = balancer
        self._reactor = reactor
        self._rotate: Any = None

    def startService(self) -> None:
        super().startService()
        self._rotate = signal.getsignal(signal.SIGUSR1)
        # The reactor installs handlers of its own when it begins to run; until ours are back, signals wait.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._answers())
        self._reactor.callWhenRunning(self._install)

    def _install(self) -> None:
        answers = self._answers()
        for number, answer in answers.items():
            signal.signal(number, self._in_reactor(answer))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, answers)

    def _answers(self) -> dict[signal.Signals, Callable[[int], None]]:
        return {
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._stop,
            signal.SIGHUP: self._reload,
            signal.SIGUSR1: self._reopen,
        }

    def _in_reactor(self, answer: Any) -> Any:
        def handle(number: int, frame: FrameType | None) -> None:
            self._reactor.callFromThread(answer, number)

        return handle

    def _stop(self, number: int) -> None:
        name = signal.Signals(number).name
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            _log.warn("{name} again: closing what still runs", name=name)
            self._balancer.abort()
        else:
            _log.info("{name}: stopping; once more to close at once", name=name)

    def _reload(self, number: int) -> None:
        _log.warn("SIGHUP: reloading is not supported yet; the configuration stays as it is")

    def _reopen(self, number: int) -> None:
        self._balancer.reopen_log()
        if callable(self._rotate):
            self._rotate(number, None)
