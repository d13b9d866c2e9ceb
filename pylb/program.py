"""How does a configuration file become the service that twistd runs?

Everything that can be wrong is found here, before twistd forks or sheds privileges: it is said in plain text on standard
error, with exit status 1, and nothing has started.
"""

from __future__ import annotations

import atexit
import os
from typing import Any

from OpenSSL import SSL
from twisted.application.service import IService, MultiService
from twisted.logger import Logger
from twisted.python.failure import Failure

from pylb.capacity import raise_descriptor_limit
from pylb.config import ConfigError, load
from pylb.model import Config
from pylb.proxy.listen import BindError
from pylb.service import LoadBalancer
from pylb.signals import Signals
from pylb.workers.supervisor import Supervisor

__all__ = ["program"]

_log = Logger()


def program(path: str, foreground: bool, demo: bool) -> IService:
    """The load balancer that the file `path` describes, with every socket bound; raises SystemExit with what is wrong."""
    raise_descriptor_limit()
    try:
        config = load(path)
        if config.access_log and config.access_log.path == "-" and not foreground:
            raise SystemExit(f"{path}: access_log.path: a daemon has no standard output: name a file, or use twistd -n")
        _log.info("configuration {path}", path=path)
        return _services(_balancer(config), demo)
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
