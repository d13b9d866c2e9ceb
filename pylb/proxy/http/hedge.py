"""When is a second server asked, and which of the two answers?

- A request that may be sent twice, whose body has come and that has no answer `hedge` after its server was chosen, is sent
  to another one too, if limits allow it and there is one that nobody waits for.  If not, it is looked again after as long.
- No more than two servers have it at once.  If a second one fails, the next one is its successor.
- Whoever first sends an answer that is wanted has won: it is passed on.  The other one's connection ends.  The first server
  is known to have taken longer.  It has failed if that happens so often in a row that the delays come to its timeout.
- An answer that is to be tried elsewhere, or none, ends one of the two; the request goes on with the other.
"""

from __future__ import annotations

from typing import Any

from pylb.balance.lease import Lease
from pylb.balance.pool import NoServerAvailable
from pylb.proxy.deadline import Deadline
from pylb.proxy.dial import ServerSide
from pylb.proxy.http.ask import Ask
from pylb.proxy.http.exchange import Exchange
from pylb.proxy.http.head import ResponseHead

__all__ = ["Hedged"]


class Hedged(Exchange):
    """What makes an exchange impatient: stands before its class among the bases of another (see `Ask.hedged`)."""

    def __init__(self, *asked: Any) -> None:
        super().__init__(*asked)
        self._patience: Deadline | None = None
        self._rival: _Rival | None = None
        #: The one that a rival has or had last, since this exchange has its own.
        self.rival_lease: Lease | None = None

    # From the rival.

    def overtaken(self, rival: Exchange) -> None:
        """It has an answer."""
        assert self.lease is not None
        pool, upstream = self._pool, self._upstream
        connecting = self._server is None
        self._abort_server()
        self.lease.timed(upstream.pool.metric)
        if "timeout" in upstream.blamed:
            patience = upstream.limits.connect_timeout if connecting else pool.read_timeout
            self.lease.overtaken(connecting, patience / pool.hedge)
        self._follow()
        self._calm()
        self.answer = rival.answer

    def rival_failed(self) -> None:
        """It has none."""
        self._rival = None

    # From the search and the server.

    def _use(self, lease: Lease, idle: ServerSide | None = None) -> None:
        super()._use(lease, idle)
        if self.lease is not None and self.answer is None:
            self._be_patient()

    def _be_patient(self) -> None:
        if self._patience is None:
            self._patience = Deadline(self._upstream.deadlines, self._ask_another)
        self._patience.set(self._pool.hedge)

    def _ask_another(self) -> None:
        """Or look again later, if the body has not come or it is not allowed now."""
        lease = self._another() if self._whole and self._replay is not None else None
        if lease is None:
            self._be_patient()
        else:
            self._rival = _Rival(self, self._message + (self._replay or b""), self._ask)
            self._rival.use(lease, self._started)

    def _another(self) -> Lease | None:
        """A lease of another server.  Who waits for one needs it more."""
        pool = self._upstream.pool
        assert self.lease is not None
        if pool.queue or pool.crowded or not self.may_try_another():
            return None
        try:
            return pool.acquire(self, after=self.rival_lease or self.lease)
        except NoServerAvailable:
            return None

    def again(self, failure: str | None = None, after: Lease | None = None) -> bool:
        if self._rival is None:
            after, self.rival_lease = after or self.rival_lease, None
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

    def _accept(self, head: ResponseHead) -> bool:
        accepted = super()._accept(head)
        if accepted:
            self._calm()
        return accepted

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
        self.rival_lease = None
        self.inherit(rival)

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

    def __init__(self, request: Hedged, message: bytes, ask: Ask) -> None:
        super().__init__(request.record, ask, message)
        self._request = request
        self._replay = b""
        self._whole = True

    def use(self, lease: Lease, started: float) -> None:
        """Ask the server of `lease`; the first server was chosen when the clock read `started`."""
        self._started = started
        self._use(lease)

    def _use(self, lease: Lease, idle: ServerSide | None = None) -> None:
        self._request.rival_lease = lease
        super()._use(lease, idle)

    def connection_variable(self, name: str) -> bytes:
        return self._request.connection_variable(name)

    def _accept(self, head: ResponseHead) -> bool:
        pool, status = self._pool, head.status
        if status not in pool.retried_statuses:
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
