"""What does this machine lack of what a configuration asks for?

Another machine may have it, so nothing here is a mistake.  Nothing is disturbed: no address is bound whose port somebody may
have, no file is touched.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

from pylb.config.mistakes import Mistake, Path
from pylb.config.sources import Sources
from pylb.model import Address, Config, InetAddress
from pylb.words import quoted_path

__all__ = ["lacks"]


def lacks(sources: Sources, config: Config) -> Iterator[Mistake]:
    """Each thing at its place: folders of the access log and of Unix sockets, addresses to listen on."""
    for path, text in _missing(config):
        if text:
            yield sources.mistake(path, f"{text} on this machine")


def _missing(config: Config) -> Iterator[tuple[Path, str]]:
    if config.access_log is not None and config.access_log.path != "-":
        yield ("access_log", "path"), _no_folder(config.access_log.path)
    for listener in config.listeners.values():
        for place, address in enumerate(listener.listen):
            yield ("listeners", listener.name, "listen", place), _no_address(address)


def _no_address(address: Address) -> str:
    if not isinstance(address, InetAddress):
        return _no_folder(address.path)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address.host, 0))  # any port: theirs may be in use, by pylb itself
    except OSError as error:
        return f"cannot listen on {address}: {error.strerror}"
    return ""


def _no_folder(path: str) -> str:
    folder = os.path.dirname(path)
    return "" if os.path.isdir(folder) else f"there is no folder {quoted_path(folder)}"
