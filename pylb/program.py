"""How does a configuration file become the service that twistd runs?

Everything that can be wrong is found here, before twistd forks or sheds privileges: it is said in plain text on standard
error, with exit status 1, and nothing has started.

SIGHUP reads the file again.  What is wrong then is said in the log, and the configuration stays as it was.
"""

from __future__ import annotations

import atexit
import os
from typing import Any

from OpenSSL import SSL
from twisted.application.service import IService, MultiService
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pylb.capacity import raise_descriptor_limit
from pylb.config import ConfigError, load
from pylb.model import Config
from pylb.proxy.listen import BindError
from pylb.reloads import ReloadBroke
from pylb.service import LoadBalancer
from pylb.signals import Signals
from pylb.workers.crew import WorkerEnded
from pylb.workers.supervisor import Supervisor

__all__ = ["program"]

_log = Logger()

#: What may be wrong with a configuration, or in the way of what it asks for.
MISTAKES = ConfigError, BindError, OSError, ValueError, SSL.Error, WorkerEnded


def program(path: str, foreground: bool, demo: bool) -> IService:
    """The load balancer that the file `path` describes, with every socket bound; raises SystemExit with what is wrong."""
    raise_descriptor_limit()
    try:
        config = _read(path, foreground)
        _log.info("configuration {path}", path=path)
        balancer = _balancer(config)
        return _services(balancer, Reload(path, foreground, balancer), demo)
    except MISTAKES as error:
        raise SystemExit(_explain(path, error)) from None


def _read(path: str, foreground: bool) -> Config:
    config = load(path)
    if config.access_log and config.access_log.path == "-" and not foreground:
        raise ValueError("access_log.path: a daemon has no standard output: name a file, or use twistd -n")
    return config


def _explain(path: str, error: Exception) -> str:
    if isinstance(error, (ConfigError, BindError)):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return f"{path}: cannot open {error.filename}: {error.strerror or error}"
    return f"{path}: {error}"


def _balancer(config: Config) -> LoadBalancer | Supervisor:
    from twisted.internet import reactor

    return LoadBalancer(config, reactor) if config.workers == 1 else Supervisor(config, reactor)


class Reload:
    """Reads the configuration again, and has it served in the place of the present one, unless something is wrong.

    However often it is called while that takes its time, the file is read once more, afterwards.
    """

    def __init__(self, path: str, foreground: bool, balancer: LoadBalancer | Supervisor) -> None:
        self._path = path
        self._foreground = foreground
        self._balancer = balancer
        #: Whether one is under way, and whether the file has to be read once more when that is over.
        self._is_busy = self._again = False

    def __call__(self) -> None:
        if self._is_busy:
            self._again = True
            return
        _log.info("reloading {path}", path=self._path)
        self._is_busy = True
        maybeDeferred(self._reload).addErrback(self._failed).addCallback(self._over)

    def _reload(self) -> Deferred[None]:
        return self._balancer.reload(_read(self._path, self._foreground))

    def _over(self, _: object) -> None:
        self._is_busy = False
        if self._again:
            self._again = False
            self()

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure.value, CancelledError):
            self._again = False
            _log.info("no reload: pylb stops")
        elif isinstance(failure.value, ReloadBroke):
            cause = failure.value.__cause__
            _log.failure("the reload broke half way: stop pylb, and start it again", Failure(cause))
        else:
            self._refuse(failure)

    def _refuse(self, failure: Failure) -> None:
        if isinstance(failure.value, MISTAKES):
            for line in _explain(self._path, failure.value).splitlines():
                _log.error("{line}", line=line)
        else:
            _log.failure("the reload breaks", failure)
        _log.error("no reload, the configuration stays as it was")


def _services(balancer: LoadBalancer | Supervisor, reload: Reload, demo: bool) -> IService:
    services = MultiService()
    # Services start in this order: from the first look-up on a signal finds its answer.
    Signals(balancer, reload, balancer.reactor).setServiceParent(services)
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
