"""The `pylb` command: what can be asked of pylb apart from serving, which is twistd's."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import click

from pylb import __version__
from pylb.config.machine import lacks
from pylb.config.mistakes import ConfigError, Path
from pylb.config.sources import Sources
from pylb.model import Config, HttpListener, InetAddress, Listener, OwnCheck, PoolSpec
from pylb.words import quoted, raised

__all__ = ["main"]


@click.group()
@click.version_option(__version__, prog_name="pylb")
def main() -> None:
    """A load balancer for TCP, UDP and HTTP."""


@main.command()
@click.argument("file")
@click.option("--resolve", is_flag=True, help="Also look up the names of all servers.")
def check(file: str, resolve: bool) -> None:
    """Say whether FILE is a configuration that pylb can serve, or else every mistake in it.

    What it asks for and this machine lacks is said as well, and is no mistake.
    """
    from pylb.config.build import build

    try:
        sources = Sources.of_file(file)
        config = build(sources)
        _make_own(sources, config)
        if resolve:
            _resolve(sources, config)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    click.echo(f"{file}: ok, {_summary(config)}")
    for listener in config.listeners.values():
        click.echo(f"  {_described(listener)}")
    for lack in lacks(sources, config):
        click.echo(f"{lack}", err=True)


@main.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from pylb.config.json_schema import as_text

    click.echo(as_text(), nl=False)


def _summary(config: Config) -> str:
    servers = sum(len(pool.servers) for pool in config.pools.values())
    counts = {"pool": len(config.pools), "server": servers, "listener": len(config.listeners)}
    return ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items())


def _described(listener: Listener) -> str:
    addresses = ", ".join(map(str, listener.listen))
    secured = " with TLS" if listener.protocol != "udp" and listener.tls else ""
    return f"{listener.name}: {listener.protocol} on {addresses}{secured} -> {', '.join(_pools(listener))}"


def _pools(listener: Listener) -> list[str]:
    if isinstance(listener, HttpListener):
        return list(dict.fromkeys(route.pool for route in listener.routes))
    return [listener.pool]


def _make_own(sources: Sources, config: Config) -> None:
    """Make what is of somebody's own, as twistd would; raise ConfigError for what cannot be made."""
    broken = []
    for pool in config.pools.values():
        for below, asked in _own(pool):
            try:
                _make(asked)
            except ValueError as error:
                broken.append(sources.mistake(("pools", pool.name, *below), str(error)))
    if broken:
        raise ConfigError(broken)


def _own(pool: PoolSpec) -> Iterator[tuple[Path, PoolSpec | OwnCheck]]:
    """Who asks for a method or a check of somebody's own, and where."""
    if pool.balance.own is not None:
        yield ("balance", "method"), pool
    for place, check in enumerate(pool.health_check):
        if isinstance(check, OwnCheck):
            yield ("health_check", place, "type"), check


def _make(asked: PoolSpec | OwnCheck) -> None:
    """Raises ValueError."""
    from pylb.balance.methods import CannotBeMade
    from pylb.balance.pool import make_pool
    from pylb.check.kinds import make_check

    if isinstance(asked, OwnCheck):
        make_check(asked)
        return
    try:
        make_pool(asked, time.monotonic)
    except CannotBeMade:
        raise
    except (Exception, SystemExit) as error:  # out of its `add`
        raise ValueError(f"balancing method {asked.balance.method} takes no server: {raised(error)}") from error


def _resolve(sources: Sources, config: Config) -> None:
    """Print what each name stands for; raise ConfigError for those that stand for nothing."""
    from pylb.proxy.lookup import getaddrinfo

    unknown = []
    for host, path in _names(config).items():
        try:
            click.echo(f"{host}: {', '.join(getaddrinfo(host))}")
        except (OSError, UnicodeError) as error:
            text = f"cannot look up {quoted(host)}: {getattr(error, 'strerror', None) or error}"
            unknown.append(sources.mistake(path, text))
    if unknown:
        raise ConfigError(unknown)


def _names(config: Config) -> dict[str, Path]:
    """Every host name that the system is asked for, with the first place that has it."""
    names: dict[str, Path] = {}
    for pool in config.pools.values():
        for place, server in enumerate(pool.servers):
            if isinstance(server.address, InetAddress) and not server.address.is_literal and not server.resolve:
                names.setdefault(server.address.host, ("pools", pool.name, "servers", place, "address"))
    return names
