"""What are nginx's variables in this request?

As nginx has them, but for `$uri`, which is the path as it was sent: pylb neither decodes nor normalises.
"""

from __future__ import annotations

from pylb.proxy.http.head import RequestHead

__all__ = ["variable"]


def variable(head: RequestHead, name: str) -> bytes:
    """The value of a variable of HTTP; nothing if the request has none."""
    plain = _PLAIN.get(name)
    if plain is not None:
        return plain(head)
    kind, _, which = name.partition("_")
    if kind == "http":
        return b", ".join(head.fields.values.get(which.lower().replace("_", "-").encode(), ()))
    find = {"arg": _argument, "cookie": _cookie}.get(kind)
    return find(head, which.encode()) if find else b""


def _host(head: RequestHead) -> bytes:
    """In lower case and without a port."""
    host = head.host.lower()
    return host[: host.index(b"]") + 1] if host.startswith(b"[") else host.partition(b":")[0]


def _query(head: RequestHead) -> bytes:
    return head.target.partition(b"?")[2]


def _argument(head: RequestHead, name: bytes) -> bytes:
    return _first(_query(head).split(b"&"), name)


def _cookie(head: RequestHead, name: bytes) -> bytes:
    cookies = b";".join(head.fields.values.get(b"cookie", ()))
    return _first([cookie.strip() for cookie in cookies.split(b";")], name)


def _first(pairs: list[bytes], name: bytes) -> bytes:
    """The value of the first `name=value`, in whatever case the name is, as in nginx."""
    name = name.lower()
    for pair in pairs:
        found, equals, value = pair.partition(b"=")
        if equals and found.lower() == name:
            return value
    return b""


_PLAIN = {
    "args": _query,
    "host": _host,
    "request_method": lambda head: head.method,
    "request_uri": lambda head: head.target,
    "uri": lambda head: head.path,
}
