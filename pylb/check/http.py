"""Is the answer to a request what it should be?

Its status, its headers and the first 256 KiB of its body are looked at, in that order.  What does not matter for the verdict
is not waited for, except that a connection is used again only behind a whole answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import inf

from zope.interface import implementer

from pylb.check.interface import IHealthCheck, Unhealthy
from pylb.check.target import Conversation, Target
from pylb.model import HeaderTest, HttpCheck, HttpMatch
from pylb.proxy.http.body import BodyReader, body_reader, response_framing
from pylb.proxy.http.head import BadHead, ResponseHead, parse_response

__all__ = ["HttpProbe"]

#: Bytes of a body that are looked at.
_LONGEST_BODY = 256 * 1024


@implementer(IHealthCheck)
class HttpProbe:
    """Sends a request and looks at the answer."""

    def __init__(self, spec: HttpCheck) -> None:
        self._spec = spec
        #: When the connection that is kept is too old.
        self._expires = -inf

    async def check(self, target: Target) -> None:
        kept = target.kept()
        if kept is not None and target.clock() < self._expires:
            try:
                await self._ask(target, kept)
                return
            except Unhealthy:
                if kept.received or not kept.ended:
                    raise
                # The server had closed it just then.
        fresh = await target.connect()
        self._expires = target.clock() + self._spec.keepalive_time
        await self._ask(target, fresh)

    async def _ask(self, target: Target, conversation: Conversation) -> None:
        conversation.write(_request(self._spec, target.host))
        answer = _Answer(self._spec)
        try:
            reusable = await conversation.until(lambda data: answer.read(data, conversation.ended))
        except BadHead as bad:
            raise Unhealthy(f"its answer is not HTTP: {bad.reason}") from None
        if reusable:
            target.keep(conversation)


class _Answer:
    """The answer, as far as it has come."""

    def __init__(self, spec: HttpCheck) -> None:
        self._spec = spec
        self._wanted = spec.match.body is not None or spec.keepalive_time > 0
        #: Bytes that were taken of all that has come, and what of them was not understood yet.
        self._taken = 0
        self._rest = b""
        self._head: ResponseHead | None = None
        self._body: BodyReader = body_reader(0)
        self._payload = b""

    def read(self, data: bytes, ended: bool) -> bool | None:
        """Whether the connection can be used again, once the verdict is good; None until then; raises Unhealthy, BadHead."""
        self._rest += data[self._taken :]
        self._taken = len(data)
        head = self._head or self._find_head()
        if head is None:
            return None
        return self._read_body(head, ended) if self._wanted else False

    def _find_head(self) -> ResponseHead | None:
        """The head of the answer proper, behind interim ones."""
        while (end := self._rest.find(b"\r\n\r\n")) >= 0:
            head, self._rest = parse_response(self._rest[: end + 2]), self._rest[end + 4 :]
            if head.status >= 200 or head.status == 101:
                _look_at_head(self._spec.match, head)
                self._body = body_reader(response_framing(head, self._spec.method.encode()))
                self._head = head
                return head
        return None

    def _read_body(self, head: ResponseHead, ended: bool) -> bool | None:
        body = self._body
        if not body.done and self._rest:
            self._payload += body.feed(self._rest)
            self._rest = b""
        whole = body.done or (ended and body.close())
        if not whole and len(self._payload) < _LONGEST_BODY:
            return None
        _look_at_body(self._spec.match, self._payload[:_LONGEST_BODY])
        surplus = self._rest or body.rest
        return self._spec.keepalive_time > 0 and whole and not (ended or surplus) and head.keep_alive


def _request(spec: HttpCheck, host: str) -> bytes:
    given = {name.lower() for name, _ in spec.headers}
    lines = [("Host", host), ("User-Agent", "pylb"), ("Connection", "keep-alive" if spec.keepalive_time else "close")]
    lines = [(name, value) for name, value in lines if name.lower() not in given] + list(spec.headers)
    head = f"{spec.method} {spec.uri} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines)
    return head.encode("latin-1") + b"\r\n"


def _look_at_head(match: HttpMatch, head: ResponseHead) -> None:
    if not any(least <= head.status <= most for least, most in match.status):
        raise Unhealthy(f"status {head.status}")
    for test in match.header:
        values = [value.decode("latin-1") for value in head.fields.values.get(test.name.encode("latin-1"), ())]
        if not _TESTS[test.kind](values, test.value):
            raise Unhealthy(f"header {test.name}: {', '.join(values) or 'none'}, where {_wanted(test)} is wanted")


def _wanted(test: HeaderTest) -> str:
    return f"{test.kind} {test.value}".strip()


_TESTS: Mapping[str, Callable[[list[str], str], object]] = {
    "present": lambda values, wanted: values,
    "absent": lambda values, wanted: not values,
    "=": lambda values, wanted: wanted in values,
    "!=": lambda values, wanted: wanted not in values,
    "~": lambda values, wanted: any(re.search(wanted, value) for value in values),
    "!~": lambda values, wanted: not any(re.search(wanted, value) for value in values),
}


def _look_at_body(match: HttpMatch, body: bytes) -> None:
    if match.body is None:
        return
    found = match.body.search(body) is not None
    if found is match.not_body:
        pattern = match.body.pattern.decode("utf-8", "replace")
        raise Unhealthy(f"{pattern!r} is {'' if found else 'not '}in its body")
