"""What do clients do to a proxy, good ones and bad ones?

- Good ones look at what they get.  An answer to something else is wrong, whatever happens to the servers; what else fails
  is an error, and counted by its kind.
- Bad ones leave in the middle, are slow, or talk rubbish.  What they get is not looked at.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import BadStatusLine, HTTPConnection, HTTPException, HTTPSConnection, RemoteDisconnected
from random import Random
from threading import Event

from bench.streams import MB

__all__ = [
    "Act",
    "Client",
    "Tally",
    "bulk",
    "datagrams",
    "leave",
    "live",
    "rubbish",
    "small",
    "strange_datagrams",
    "trickle",
]

#: Seconds without a byte, and until a reply to a datagram or to rubbish is not waited for any more.
_TIMEOUT = 10.0
_LOST_AFTER = 1.0
#: Seconds between what one client does and what it does next, at most.
_PAUSE = 0.05

_HELLO = b"hello\n"
_PONG = b"pong pong pong pong pong pong po"
_ZEROS = bytes(MB)
_REQUEST = b"GET /100m HTTP/1.1\r\nHost: soak\r\nContent-Length: 5\r\n\r\nhello"
_RESET = struct.pack("ii", 1, 0)


class Wrong(Exception):
    """An answer to something else."""


class Refused(Exception):
    """The answer is an error."""


@dataclass
class Tally:
    """What was done, what went wrong on the way (each by its kind), and the answers that are wrong."""

    done: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Client:
    """One that speaks to a port; `context` is for TLS."""

    def __init__(self, kind: str, port: int, random: Random, context: ssl.SSLContext | None = None) -> None:
        self.kind = kind
        self.address = ("127.0.0.1", port)
        self.random = random
        self.tally = Tally()
        self._context = context

    def open(self) -> HTTPConnection:
        """A connection for requests, which is made with the first."""
        if self._context is None:
            return HTTPConnection(*self.address, timeout=_TIMEOUT)
        return HTTPSConnection(*self.address, timeout=_TIMEOUT, context=self._context)

    def connect(self) -> socket.socket:
        """A connection for anything."""
        connection = socket.create_connection(self.address, _TIMEOUT)
        return connection if self._context is None else self._context.wrap_socket(connection)

    def done(self) -> None:
        self.tally.done[self.kind] += 1

    def act(self, act: Act) -> None:
        """Do something once, and count what comes of it."""
        try:
            act(self)
        except Refused as error:
            self.tally.errors[f"{self.kind}: {error}"] += 1
        except (RemoteDisconnected, ConnectionError, TimeoutError, ssl.SSLError) as error:
            self.tally.errors[f"{self.kind}: {type(error).__name__}"] += 1
        except (Wrong, BadStatusLine) as error:
            self.tally.wrong.append(f"{self.kind}: {error!r:.200}")
        except HTTPException as error:
            self.tally.errors[f"{self.kind}: {type(error).__name__}"] += 1


#: What a client does once.
Act = Callable[[Client], None]


def live(client: Client, act: Act, stop: Event) -> Tally:
    """Do the same again and again until told to stop."""
    while not stop.wait(client.random.uniform(0, _PAUSE)):
        client.act(act)
    return client.tally


def small(client: Client) -> None:
    """One to fifty small exchanges on one connection."""
    with closing(client.open()) as connection:
        for _ in range(client.random.randint(1, 50)):
            _ask(connection, "GET", "/", b"", _HELLO)
            client.done()


def bulk(client: Client) -> None:
    """Some bodies of 1 MB on one connection, down or up."""
    with closing(client.open()) as connection:
        for _ in range(client.random.randint(1, 5)):
            if client.random.random() < 0.5:
                _ask(connection, "GET", "/1m", b"", _ZEROS)
            else:
                _ask(connection, "PUT", "/take", _ZEROS, _HELLO)
            client.done()


def leave(client: Client) -> None:
    """Say part of a request, or all of it, read part of the answer, and close or reset the connection."""
    random = client.random
    with suppress(OSError), client.connect() as connection:
        connection.sendall(_REQUEST[: random.randint(0, 2 * len(_REQUEST))])
        for _ in range(random.choice([0, 0, 1, 20])):
            connection.recv(1 << 16)
        if random.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        client.done()


def trickle(client: Client) -> None:
    """Speak byte after byte, or read an answer that is long in small pieces."""
    with suppress(OSError), client.connect() as connection:
        if client.random.random() < 0.5:
            for place in range(len(_REQUEST)):
                connection.sendall(_REQUEST[place : place + 1])
                _rest(client)
        else:
            connection.sendall(_REQUEST)
            for _ in range(100):
                connection.recv(4096)
                _rest(client)
        client.done()


def rubbish(client: Client) -> None:
    """Send anything, and see whether the connection is closed."""
    with suppress(OSError), client.connect() as connection:
        connection.settimeout(_LOST_AFTER)
        beginning = client.random.choice([b"", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00\x01"])
        connection.sendall(beginning + client.random.randbytes(client.random.randint(1, 5000)))
        connection.recv(4096)
        client.done()


def datagrams(client: Client) -> None:
    """Some datagrams from one port, each when the one before has its reply."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(_LOST_AFTER)
        sock.connect(client.address)
        for _ in range(client.random.randint(1, 50)):
            sock.send(b"ping")
            if (reply := sock.recv(2048)) != _PONG:
                raise Wrong(reply)
            client.done()


def strange_datagrams(client: Client) -> None:
    """Datagrams of any size from new ports, for which nobody waits."""
    for _ in range(20):
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.sendto(client.random.randbytes(client.random.choice([0, 1, 500, 60_000])), client.address)
            client.done()


def _ask(connection: HTTPConnection, method: str, path: str, body: bytes, expected: bytes) -> None:
    connection.request(method, path, body)
    answer = connection.getresponse()
    got = answer.read()
    if answer.status != 200:
        raise Refused(f"status {answer.status}")
    if got != expected:
        raise Wrong(got)


def _rest(client: Client) -> None:
    Event().wait(client.random.uniform(0, 2 * _PAUSE))
