"""What are nginx's variables in this request?

As nginx has them, but for `$uri`, which is the path as it was sent: pylb neither decodes nor normalises.
"""

from __future__ import annotations

from pylb.proxy.http.head import Fields, RequestHead, ResponseHead

__all__ = ["answer_variable", "variable"]


def variable(head: RequestHead, name: str) -> bytes:
    """The value of a variable of HTTP; nothing if the request has none."""
    plain = _PLAIN.get(name)
    if plain is not None:
        return plain(head)
    kind, _, which = name.partition("_")
    if kind == "http":
        return _field(head.fields, which)
    find = {"arg": _argument, "cookie": _cookie}.get(kind)
    return find(head, which.encode()) if find else b""


def answer_variable(head: ResponseHead, name: str) -> bytes:
    """`upstream_http_NAME` or `upstream_cookie_NAME`, what a server's answer says; nothing if it does not."""
    _, kind, which = name.split("_", 2)
    if kind == "http":
        return _field(head.fields, which)
    set_cookies = head.fields.values.get(b"set-cookie", ())
    return _first([cookie.partition(b";")[0].strip() for cookie in set_cookies], which.encode()).strip()


def _field(fields: Fields, name: str) -> bytes:
    return b", ".join(fields.values.get(name.lower().replace("_", "-").encode(), ()))


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
        if equals and found.rstrip().lower() == name:
            return value
    return b""


_PLAIN = {
    "args": _query,
    "host": _host,
    "is_args": lambda head: b"?" if _query(head) else b"",
    "query_string": _query,
    "request_method": lambda head: head.method,
    "request_uri": lambda head: head.target,
    "server_protocol": lambda head: b"HTTP/1.1" if head.minor else b"HTTP/1.0",
    "uri": lambda head: head.path,
}
