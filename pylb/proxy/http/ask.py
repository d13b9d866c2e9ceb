"""What does a request ask of pylb, as far as its head and the configuration tell?

Where it goes, what of it travels on, and whether it is refused without asking a server.  All of that is decided once for
all requests with the same head: an Ask is shared by them, and nobody changes it.
"""

from __future__ import annotations

from typing import Final

from pylb.proxy.http.body import request_framing
from pylb.proxy.http.head import RequestHead
from pylb.proxy.http.headers import UPGRADE_LINES, expects_continue, request_end, request_start
from pylb.proxy.http.tunnel import wants_websocket
from pylb.proxy.http.upstream import HttpUpstream

__all__ = ["REPLAYED", "Ask"]

#: Bytes of a request body that are kept so that it can be sent again.
REPLAYED: Final = 64 * 1024

_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})


class Ask:
    """What a request asks.  `upstream` is None, and `refusal` a status, where no server is asked."""

    __slots__ = (
        "end",
        "expects_continue",
        "framing",
        "head",
        "hedged",
        "idempotent",
        "pool",
        "refusal",
        "replayed",
        "start",
        "upgrade",
        "upstream",
    )

    def __init__(self, head: RequestHead, upstream: HttpUpstream | None, most: int = 0) -> None:
        """Bodies have `most` bytes (0: any number); raises BadHead where the body's framing is not clear."""
        framing = request_framing(head)
        self.head = head
        self.upstream = upstream
        self.pool = "" if upstream is None else upstream.name
        self.refusal = 413 if 0 < most < framing else 404 if upstream is None else 0
        self.framing = framing
        #: Whether it asks to leave HTTP for WebSocket, and whether for a 100 before its body.
        self.upgrade = wants_websocket(head, framing)
        self.expects_continue = framing != 0 and expects_continue(head)
        #: Whether it may be sent twice, and whether all of it is short enough to be kept until then.
        self.idempotent = head.method in _IDEMPOTENT
        self.replayed = 0 <= framing <= REPLAYED
        #: Whether a second server is asked when the first one takes too long.
        self.hedged = upstream is not None and upstream.hedge > 0 and self.idempotent and not self.upgrade
        #: What is sent of it before, and behind, the lines about the client.
        self.start = request_start(head, head.host)
        self.end = request_end(head, framing)
        if self.upgrade:
            self.end = UPGRADE_LINES + self.end
        elif upstream is not None and not upstream.idle.spec.connections:
            self.end = b"Connection: close\r\n" + self.end

    def message(self, client_lines: bytes, host: bytes) -> bytes:
        """The head for a server.  `host` is the head's, or another if that names none."""
        start = self.start if host is self.head.host else request_start(self.head, host)
        return b"%b%b%b" % (start, client_lines, self.end)
