"""What does an exchange tell whoever asked?

The exchange knows neither a client's connection nor twisted.web: both are askers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pylb.proxy.http.head import ResponseHead

if TYPE_CHECKING:
    from pylb.proxy.http.server import ServerConnection

__all__ = ["Asker"]


class Asker(Protocol):
    """Whoever asked.  Hears `begins`, any number of `data` and one of `ends` and `breaks`; or else one `fails`."""

    def variable(self, name: str) -> bytes:
        """One of CONNECTION_VARIABLES."""

    def answer_informs(self, head: ResponseHead) -> None:
        """An interim answer (1xx)."""

    def answer_switches(self, head: ResponseHead, server: ServerConnection) -> None:
        """101: the connection to the server is the asker's now."""

    def answer_begins(self, head: ResponseHead, framing: int, data: bytes) -> None:
        """The head, `framing` as in `body`, and what came of the body with it."""

    def answer_data(self, data: bytes) -> None:
        """A piece of the body."""

    def answer_sink(self) -> object | None:
        """The transport that more of the body may pass to as it is, if there is one; who lets it counts it in the record."""

    def answer_ends(self, trailers: bytes) -> None:
        """The body is whole."""

    def answer_breaks(self) -> None:
        """The body will never be whole: the client must be able to see that."""

    def answer_fails(self, status: int) -> None:
        """There will be no answer of a server: 502 or 504."""

    def pause_body(self) -> None:
        """Bring no more of the request's body for now."""

    def resume_body(self) -> None:
        """Go on."""
