"""What do health checks cost?  The part of a core that pylb takes to ask 1,000 servers every 5 seconds.

    python -m bench.checks
    python -m bench.checks --servers 200 --interval 1 --seconds 30

One line for each kind of check.  All the servers are one nginx, under one address: what it costs to ask does not depend on
who answers.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any

import click

from bench.program import Program, running
from bench.targets import backend, checked, free_ports, missing, prepare

__all__ = ["configuration", "share"]

KINDS: dict[str, dict[str, Any]] = {
    "http": {"type": "http"},
    "http, with a regex for the body": {"type": "http", "match": {"body": "~ ."}},
    "http, over kept connections": {"type": "http", "keepalive_time": "1h"},
    "tcp": {"type": "tcp"},
}


def configuration(kind: str, servers: int, interval: float, port: int, listen: int) -> str:
    """A pool of so many servers at one port, with checks; YAML includes JSON."""
    check = {**KINDS[kind], "interval": interval}
    pool = {"servers": [f"127.0.0.1:{port}"] * servers, "health_check": check}
    listener = {"protocol": "tcp", "listen": f"127.0.0.1:{listen}", "pool": "checked"}
    return json.dumps({"pools": {"checked": pool}, "listeners": {"tcp": listener}})


def share(proxy: Program, seconds: float, interval: float) -> float:
    """The part of a core that a program takes, measured for so long, once every server has been asked."""
    sleep(1.5 * interval)
    before = proxy.cpu_seconds()
    sleep(seconds)
    return (proxy.cpu_seconds() - before) / seconds


@click.command()
@click.option("--servers", default=1000, show_default=True)
@click.option("--interval", default=5.0, show_default=True, help="Seconds between two checks of a server.")
@click.option("--seconds", default=15.0, show_default=True, help="How long each kind is measured.")
def main(servers: int, interval: float, seconds: float) -> None:
    """Measure what health checks cost."""
    if packages := missing():
        sys.exit(f"apt-get install {' '.join(packages)}")
    click.echo(f"{servers} servers, each asked every {interval:g} s:")
    with TemporaryDirectory() as name, ExitStack() as programs:
        folder = Path(name)
        prepare(folder)
        port = programs.enter_context(running(backend(folder))).ports["backend_1"]
        for kind in KINDS:
            [listen] = free_ports(["tcp"]).values()
            config = folder / "checks.yaml"
            config.write_text(configuration(kind, servers, interval, port, listen))
            with running(checked(config, listen)) as proxy:
                click.echo(f"  {100 * share(proxy, seconds, interval):5.1f} % of a core  {kind}")


if __name__ == "__main__":
    main()
