"""Which cookie does a client get, so that its next request finds the same server?

The attributes are nginx's, in nginx's order and spelling.  A client that has brought the right cookie gets none, unless
each answer is to begin its time anew (`refresh`), which is all that nginx does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from math import inf

from pylb.balance.server import Server
from pylb.balance.sticky import CookieSessions
from pylb.model import StickyCookie
from pylb.proxy.http.head import RequestHead
from pylb.proxy.http.variables import variable

__all__ = ["SessionCookie", "cookie_time"]

#: What nginx says for good: ten years, and the last date before 2038 that its rules let it write.
_FOR_GOOD = "; expires=Thu, 31-Dec-37 23:55:55 GMT; max-age=315360000"


class SessionCookie:
    """Makes the Set-Cookie lines of a pool; `wall` reads seconds since 1970."""

    def __init__(self, sessions: CookieSessions, wall: Callable[[], float] = time.time) -> None:
        spec = sessions.spec
        self._sessions = sessions
        self._wall = wall
        self._variable = f"cookie_{spec.name}"
        self._expires = spec.expires
        self._refresh = spec.refresh
        self._name = spec.name.encode()
        self._attributes = "".join(_attributes(spec)).encode()

    def line(self, head: RequestHead, server: Server) -> bytes:
        """The line, with its CRLF, for the answer of `server` to a request; nothing if the client needs none."""
        value = self._sessions.name(server)
        if not self._refresh and variable(head, self._variable) == value:
            return b""
        return b"Set-Cookie: %b=%b%b%b\r\n" % (self._name, value, self._lifetime().encode(), self._attributes)

    def _lifetime(self) -> str:
        if self._expires is None:
            return ""
        if self._expires == inf:
            return _FOR_GOOD
        seconds = int(self._expires)
        return f"; expires={cookie_time(self._wall() + seconds)}; max-age={seconds}"


def _attributes(spec: StickyCookie) -> Iterator[str]:
    if spec.domain is not None:
        yield f"; domain={spec.domain}"
    if spec.httponly:
        yield "; httponly"
    if spec.secure:
        yield "; secure"
    if spec.samesite is not None:
        yield f"; samesite={spec.samesite}"
    if spec.path is not None:
        yield f"; path={spec.path}"


def cookie_time(moment: float) -> str:
    """`Thu, 31-Dec-37 23:55:55 GMT`; with four digits for the year from 2038 on, as in nginx (ngx_http_cookie_time)."""
    weekday, day, month, year, clock, zone = formatdate(int(moment), usegmt=True).split()
    return f"{weekday} {day}-{month}-{year if int(year) > 2037 else year[2:]} {clock} {zone}"
