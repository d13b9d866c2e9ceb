"""pylb.proxy.accesslog: what was asked, who answered, how long did it take?"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pylb import model
from pylb.proxy.accesslog import NOTHING, AccessLog, NullLog, Record, open_access_log


class RecordTests(SynchronousTestCase):
    def test_begins_empty(self) -> None:
        """A new record knows the client and nothing else, and shares nothing with the next."""
        record, other = (Record("web", "http", "192.0.2.7", 4711, 100.0) for _ in range(2))
        other.tried("10.0.0.1:80")
        self.assertEqual((record.tries, record.status, record.bytes_sent, record.asked), ([], 0, 0, NOTHING))

    def test_tried(self) -> None:
        """Each server that is tried is noted, in order; what became of it is filled in afterwards."""
        record = Record("web", "http", "192.0.2.7", 4711, 100.0)
        record.tried("10.0.0.1:80")
        record.tried("10.0.0.2:80").status = 200
        self.assertEqual(
            [(attempt.server, attempt.status) for attempt in record.tries],
            [("10.0.0.1:80", None), ("10.0.0.2:80", 200)],
        )

    def test_small(self) -> None:
        """Records and tries have no room for other fields: there is one a request."""
        record = Record("web", "http", "192.0.2.7", 4711, 100.0)
        self.assertRaises(AttributeError, setattr, record, "other", 1)
        self.assertRaises(AttributeError, setattr, record.tried("a"), "other", 1)


class AccessLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.path = Path(self.mktemp()).absolute()
        self.wall_reads = 0

    def wall(self) -> float:
        """Wall time, a million seconds and a half later than the clock."""
        self.wall_reads += 1
        return 1_000_000.5 + self.clock.seconds()

    def open(self, format: str) -> AccessLog | NullLog:
        """A log in this format, closed at the end."""
        spec = model.AccessLog(path=str(self.path), format=format)
        log = open_access_log(spec, self.clock, self.clock.seconds, self.wall)
        self.addCleanup(log.close)
        return log

    def record(self) -> Record:
        """A connection that starts now."""
        return Record("db", "tcp", "192.0.2.7", 4711, self.clock.seconds())

    def test_line(self) -> None:
        """A record is written as one line, with the time since it was started."""
        log = self.open("$listener $request_time")
        record = self.record()
        self.clock.advance(0.25)
        log.write(record)
        self.clock.advance(1)
        self.assertEqual(self.path.read_text(), "db 0.250\n")

    def test_wall_time(self) -> None:
        """Wall time is read once a second, and each line shows the second in which it was written."""
        log = self.open("$msec $time_iso8601")
        before = self.wall_reads
        for _ in range(20):
            log.write(self.record())
            self.clock.advance(0.125)
        self.clock.advance(1)
        lines = [line.split() for line in self.path.read_text().splitlines()]
        self.assertEqual([int(float(msec)) % 60 for msec, _ in lines], [int(text[17:19]) for _, text in lines])
        self.assertEqual(self.wall_reads - before, 2)

    def test_reopen(self) -> None:
        """After reopen() lines go to a new file."""
        log = self.open("$listener")
        log.write(self.record())
        self.path.rename(self.path.with_suffix(".1"))
        log.reopen()
        log.write(self.record())
        log.close()
        self.assertEqual(self.path.read_text(), "db\n")

    def test_unknown_format(self) -> None:
        """A format that is none raises ValueError and opens nothing."""
        self.assertRaises(ValueError, self.open, "combind")
        self.assertFalse(self.path.exists())

    def test_none(self) -> None:
        """Without an access log in the configuration, records are forgotten."""
        log = open_access_log(None, self.clock, self.clock.seconds)
        log.write(self.record())
        log.reopen()
        log.close()
        self.assertIsInstance(log, NullLog)
        self.assertEqual(self.clock.getDelayedCalls(), [])
