"""When is a second server asked, and which of the two answers?

- A request that may be sent twice, whose body has come and that has no answer after its server has had it for `hedge`, is
  sent to another one too, if retries are allowed and there is one.  No more than two servers have it at once.
- Whoever first sends an answer that is wanted has won: it is passed on.  The other one's connection ends, without blame, and
  what is known of its time is that it took longer.
- An answer that is to be tried elsewhere, or none, ends one of the two; the request goes on with the other.
"""

from __future__ import annotations

from pylb.balance.lease import Lease
from pylb.balance.pool import NoServerAvailable
from pylb.proxy.accesslog import Record
from pylb.proxy.deadline import Deadline
from pylb.proxy.http.ask import Ask
from pylb.proxy.http.exchange import Exchange
from pylb.proxy.http.head import ResponseHead

__all__ = ["HedgedExchange"]


class HedgedExchange(Exchange):
    """An exchange that grows impatient."""

    __slots__ = ("_patience", "_rival", "after")

    def __init__(self, record: Record, ask: Ask, message: bytes) -> None:
        super().__init__(record, ask, message)
        self._patience: Deadline | None = None
        self._rival: _Rival | None = None
        #: The rival's lease, or the one that it had last.
        self.after: Lease | None = None

    # From the rival.

    def overtaken(self, rival: Exchange) -> None:
        """It has an answer."""
        self._abort_server()
        assert self.lease is not None
        self.lease.timed(self._upstream.pool.metric)
        self._follow()
        self._calm()
        self.answer = rival.answer

    def rival_failed(self) -> None:
        """It has none."""
        self._rival = None

    # From the search and the server.

    def _use(self, lease: Lease) -> None:
        super()._use(lease)
        if self._pool.hedge and self.lease is not None and self.answer is None and not self._ask.upgrade:
            if self._patience is None:
                self._patience = Deadline(self._upstream.deadlines, self._ask_another)
            self._patience.set(self._pool.hedge)

    def _ask_another(self) -> None:
        limits = self._upstream.limits
        spent = 0 < limits.tries <= len(self.record.tries)
        if spent or self._rival is not None or self.lease is None or not (self._whole and self._may_repeat()):
            return
        try:
            lease = self._upstream.pool.acquire(self, after=self.lease)
        except NoServerAvailable:
            return
        self._rival = _Rival(self, self._message + (self._replay or b""), self._ask)
        self._rival.use(lease)

    def again(self, failure: str | None = None, after: Lease | None = None) -> bool:
        if self._rival is None:
            after, self.after = after or self.after, None
            return super().again(failure, after)
        if failure is not None and self.lease is not None:
            self.lease.failed(failure)
        self._follow()
        return True

    def unreachable(self, error: Exception) -> None:
        if self._rival is None:
            self._calm()
            super().unreachable(error)
        else:
            self._follow()

    def informed(self, head: ResponseHead) -> None:
        self._calm()  # The client hears of this server.
        super().informed(head)

    def answered(self, head: ResponseHead, framing: int, data: bytes) -> None:
        if self._accept(head):
            if self._patience is not None:
                self._calm()
            self.answer_begins(head, framing, data)

    def abandon(self) -> None:
        self._calm()
        super().abandon()

    def _give_up(self, status: int) -> None:
        if self._rival is None:
            self._calm()
            super()._give_up(status)
        else:
            self._follow()

    # What becomes of the two.

    def _follow(self) -> None:
        """Go on where the rival is, and nowhere else."""
        rival, self._rival = self._rival, None
        assert rival is not None
        self.stop()
        self.after = None
        self.inherit(rival)
        self._unconfirmed = rival._unconfirmed
        self._server, rival._server = rival._server, None
        if self._server is not None:
            self._server.belong_to(self)

    def _calm(self) -> None:
        """Ask nobody else, and nobody else any more."""
        if self._patience is not None:
            self._patience.end()
            self._patience = None
        rival, self._rival = self._rival, None
        if rival is not None:
            rival.abandon()


class _Rival(Exchange):
    """The same request, asked of another server, until that answers; `message` is all of it."""

    __slots__ = ("_request",)

    def __init__(self, request: HedgedExchange, message: bytes, ask: Ask) -> None:
        super().__init__(request.record, ask, message)
        self._request = request
        self._replay = b""
        self._whole = True

    def use(self, lease: Lease) -> None:
        """Ask the server of `lease`."""
        self._started = lease.picked
        self._use(lease)

    def _use(self, lease: Lease) -> None:
        self._request.after = lease
        super()._use(lease)

    def connection_variable(self, name: str) -> bytes:
        return self._request.connection_variable(name)

    def _accept(self, head: ResponseHead) -> bool:
        pool, status = self._pool, head.status
        if status not in pool.unwelcome:
            return super()._accept(head)
        if status in pool.blamed_statuses or status in pool.blamed_if_retried:
            assert self.lease is not None
            self.lease.failed(f"status {status}")
        self._abort_server()
        self._give_up(status)
        return False

    def answer_begins(self, head: ResponseHead, framing: int, data: bytes) -> None:
        self._request.overtaken(self)
        self._request.answer_begins(head, framing, data)

    def answer_fails(self, status: int) -> None:
        self._request.rival_failed()
