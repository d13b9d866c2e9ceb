"""What does `twistd pylb` make of its command line?

twistd imports this first of all of pylb, which must not take long: until `Options` are made, a signal finds no answer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from twisted.application.service import IService
from twisted.python import usage

from pylb.signals import hold

__all__ = ["Options", "makeService"]


class Options(usage.Options):
    """The options of `twistd pylb`."""

    synopsis = "[--config FILE] [--demo]"
    optParameters = [["config", "c", "etc/lb.yaml", "The configuration file."]]
    optFlags = [["demo", None, "Also start a small backend on each address of the pools."]]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        hold()
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
    """The load balancer that `options` ask for, with every socket bound; raises SystemExit with what is wrong."""
    from pylb.program import program  # here, because it takes a while

    return program(os.path.abspath(options["config"]), _in_foreground(options), options["demo"])


def _in_foreground(options: Options) -> bool:
    return bool(options.parent and options.parent.get("nodaemon"))
