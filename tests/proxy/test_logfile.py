"""pylb.proxy.logfile: how do lines reach a file that may be full, slow or gone?"""

from __future__ import annotations

import errno
import os
import pty
import resource
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy import logfile
from pylb.proxy.logfile import FLUSH_DELAY, FLUSH_SIZE, MOST_KEPT, LogFile

LINE = b"x" * 99 + b"\n"


def read_all(fd: int) -> bytes:
    """What a non-blocking descriptor has to read just now."""
    data = bytearray()
    try:
        while piece := os.read(fd, 65536):
            data += piece
    except BlockingIOError:
        pass
    return bytes(data)


class _LogFileTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "access.log"
        self.said: list[str] = []
        globalLogPublisher.addObserver(self._note)
        self.addCleanup(globalLogPublisher.removeObserver, self._note)
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def _note(self, event: LogEvent) -> None:
        if event.get("log_namespace") == logfile.__name__:
            self.said.append(formatEvent(event))

    def open(self, path: Path | str | None = None) -> LogFile:
        """A log at `path`, closed at the end."""
        log = LogFile(self.clock, str(path or self.path))
        self.addCleanup(log.close)
        return log

    def full(self) -> LogFile:
        """A log whose device is full: `self.path` is a link to it."""
        self.path.symlink_to("/dev/full")
        return self.open()


class BufferTests(_LogFileTestCase):
    def test_written_after_a_second(self) -> None:
        """A line is in the file one second after it was written, not before, and no timer is left."""
        log = self.open()
        log.write(LINE)
        self.clock.advance(FLUSH_DELAY - 0.01)
        self.assertEqual(self.path.read_bytes(), b"")
        self.clock.advance(0.01)
        self.assertEqual(self.path.read_bytes(), LINE)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_written_when_much(self) -> None:
        """32 KiB are written at once, and no timer is left."""
        log = self.open()
        count = -(-FLUSH_SIZE // len(LINE))
        for _ in range(count - 1):
            log.write(LINE)
        self.assertEqual(self.path.stat().st_size, 0)
        log.write(LINE)
        self.assertEqual(self.path.stat().st_size, count * len(LINE))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_write(self) -> None:
        """A regular file gets all that is buffered in one write."""
        log = self.open()
        for _ in range(FLUSH_SIZE // len(LINE)):
            log.write(LINE)
        sizes: list[int] = []
        write = os.write
        patch = self.patch(os, "write", lambda fd, data: sizes.append(len(data)) or write(fd, data))
        log.flush()
        patch.restore()
        self.assertEqual(sizes, [FLUSH_SIZE // len(LINE) * len(LINE)])

    def test_close_writes_the_rest(self) -> None:
        """close() writes what is buffered; what comes later is dropped without a word."""
        log = LogFile(self.clock, str(self.path))
        log.write(LINE)
        log.close()
        log.write(LINE)
        self.assertEqual(self.path.read_bytes(), LINE)
        self.assertEqual(self.said, [])

    def test_appends(self) -> None:
        """A file that is there goes on."""
        self.path.write_bytes(b"before\n")
        log = self.open()
        log.write(LINE)
        log.flush()
        self.assertEqual(self.path.read_bytes(), b"before\n" + LINE)

    def test_mode(self) -> None:
        """A new file is readable by its owner and group only."""
        self.addCleanup(os.umask, os.umask(0o022))
        self.open()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o640)

    def test_cannot_be_opened(self) -> None:
        """What cannot be opened raises OSError with the path in it."""
        error = self.assertRaises(OSError, LogFile, self.clock, str(self.folder / "none" / "access.log"))
        self.assertEqual((error.errno, error.filename), (errno.ENOENT, str(self.folder / "none" / "access.log")))
        error = self.assertRaises(OSError, LogFile, self.clock, str(self.folder))
        self.assertEqual((error.errno, error.filename), (errno.EISDIR, str(self.folder)))


class GivenTests(_LogFileTestCase):
    def test_given(self) -> None:
        """A file that somebody else has opened is used, wherever it is; the path is for the next one."""
        given = os.open(self.folder / "old", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        log = LogFile(self.clock, str(self.path), given)
        self.addCleanup(log.close)
        self.assertEqual(log.fd, given)
        log.write(LINE)
        log.reopen()
        log.write(LINE)
        log.close()
        self.assertEqual([(self.folder / name).read_bytes() for name in ("old", "access.log")], [LINE, LINE])

    def test_fd(self) -> None:
        """None once the log is closed, and for standard output."""
        log = self.open()
        self.assertTrue(os.path.samestat(os.fstat(log.fd or -1), self.path.stat()))
        log.close()
        self.assertIsNone(log.fd)
        self.assertIsNone(self.open("-").fd)


class RotationTests(_LogFileTestCase):
    def test_reopen(self) -> None:
        """Lines written before go to the old file, those after to the new one."""
        log = self.open()
        log.write(b"old\n")
        self.path.rename(self.folder / "access.log.1")
        log.reopen()
        log.write(b"new\n")
        log.flush()
        self.assertEqual((self.folder / "access.log.1").read_bytes(), b"old\n")
        self.assertEqual(self.path.read_bytes(), b"new\n")

    def test_old_descriptor_is_closed(self) -> None:
        """Rotation leaves as many descriptors open as there were."""
        log = self.open()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            log.reopen()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_cannot_be_opened_again(self) -> None:
        """When the new file cannot be opened the old one goes on, and that is said."""
        log = self.open()
        self.path.rename(self.folder / "access.log.1")
        self.path.mkdir()
        log.reopen()
        log.write(LINE)
        log.flush()
        self.assertEqual((self.folder / "access.log.1").read_bytes(), LINE)
        self.assertEqual(
            self.said,
            [f"access log {self.path}: cannot be opened again, the old file goes on: Is a directory"],
        )

    def test_after_the_end(self) -> None:
        """A log that is closed stays so, and leaves the number that its descriptor had to whoever has it now."""
        log = self.open()
        number = log._fd
        log.close()
        others = os.open("/dev/null", os.O_RDONLY)
        self.addCleanup(os.close, others)
        self.assertEqual(others, number)
        log.reopen()
        log.close()
        os.fstat(others)
        self.assertEqual(self.said, [])

    def test_from_a_full_disk(self) -> None:
        """Lines that the old file did not take go to the new one."""
        log = self.full()
        log.write(LINE)
        log.flush()
        self.path.unlink()
        log.reopen()
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(self.path.read_bytes(), LINE)
        self.assertEqual(
            self.said,
            [
                f"access log {self.path}: No space left on device; up to 1 MiB of lines is kept, more is dropped",
                f"access log {self.path}: written again, 0 lines were lost",
            ],
        )


class FullDiskTests(_LogFileTestCase):
    def test_bounded_and_counted(self) -> None:
        """On a full disk 1 MiB is kept, more is dropped, and two messages tell of the beginning and the end."""
        log = self.full()
        fits = MOST_KEPT // len(LINE)
        for _ in range(fits + 7):
            log.write(LINE)
        for _ in range(3):
            self.clock.advance(FLUSH_DELAY)
        self.assertEqual(len(self.said), 1)
        self.path.unlink()
        log.reopen()
        log.flush()
        self.assertEqual(self.path.stat().st_size, fits * len(LINE))
        self.assertEqual(self.said[1:], [f"access log {self.path}: written again, 7 lines were lost"])

    def test_tried_again(self) -> None:
        """Each second, and each 32 KiB, the disk is tried again; not at each line."""
        calls: list[int] = []

        def no_space(fd: int, data: bytes) -> int:
            calls.append(fd)
            raise OSError(errno.ENOSPC, "No space left on device")

        log = self.open()
        self.patch(os, "write", no_space)
        for _ in range(2 * FLUSH_SIZE // len(LINE) + 2):
            log.write(LINE)
        self.assertEqual(len(calls), 2)
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(len(calls), 3)

    def test_file_with_a_limit(self) -> None:
        """The kernel takes half a line, then no more; when there is room, the line goes on where it stopped."""
        start = (1 << 30) - 150  # sparse, and more than the test run's own log will ever be
        with self.path.open("wb") as file:
            file.truncate(start)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))
        log = self.open()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, hard))
        log.write(LINE)
        log.write(LINE)
        log.flush()
        self.assertEqual(self.path.stat().st_size, 1 << 30)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(self.read_from(start), LINE + LINE)
        self.assertEqual(len(self.said), 2)

    def test_half_a_line_is_not_carried_over(self) -> None:
        """The second half of a line stays out of a new file, and counts as lost."""
        log = self.open()
        self.take_then_fail(150)
        log.write(LINE)
        log.write(LINE)
        log.write(b"third\n")
        log.flush()
        self.path.rename(self.folder / "access.log.1")
        log.reopen()
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(self.path.read_bytes(), b"third\n")
        self.assertEqual(self.said[1:], [f"access log {self.path}: written again, 1 lines were lost"])

    def test_close_tells_what_is_lost(self) -> None:
        """Lines that cannot be written at the end are counted."""
        self.path.symlink_to("/dev/full")
        log = LogFile(self.clock, str(self.path))
        log.write(LINE)
        log.write(LINE)
        log.close()
        self.assertEqual(self.said[1:], [f"access log {self.path}: closed, 2 lines were lost"])

    def read_from(self, offset: int) -> bytes:
        """The file without its first bytes."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read()

    def take_then_fail(self, size: int) -> None:
        """Let the first write take this many bytes, the two after it none."""
        write = os.write
        outcomes: list[Callable[[int, bytes], int]] = [lambda fd, data: write(fd, data[:size]), fail, fail]
        self.patch(os, "write", lambda fd, data: (outcomes.pop(0) if outcomes else write)(fd, data))


def fail(fd: int, data: bytes) -> int:
    """A disk with an error."""
    raise OSError(errno.EIO, "Input/output error")


class PartialWriteTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(
        st.lists(st.binary(max_size=200).map(lambda data: data.replace(b"\n", b"") + b"\n"), max_size=50),
        st.lists(st.integers(min_value=0, max_value=150)),
    )
    def test_lines_stay_whole(self, lines: list[bytes], takes: list[int]) -> None:
        """However little a write takes (0: an error), every line arrives once, whole and in order."""
        clock, written = Clock(), bytearray()
        remaining = list(takes)

        def write(fd: int, data: bytes) -> int:
            size = remaining.pop() if remaining else len(data)
            if not size:
                fail(fd, data)
            written.extend(data[:size])
            return min(size, len(data))

        with tempfile.NamedTemporaryFile() as file:
            log = LogFile(clock, file.name)
            patch = self.patch(os, "write", write)
            for line in lines:
                log.write(line)
            for _ in range(len(takes) + 1):
                clock.advance(FLUSH_DELAY)
            patch.restore()
            log.close()
        self.assertEqual(bytes(written), b"".join(lines))


class FifoTests(_LogFileTestCase):
    def setUp(self) -> None:
        super().setUp()
        os.mkfifo(self.path)

    def reader(self) -> int:
        """A descriptor that reads the FIFO without waiting."""
        fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, fd)
        return fd

    def test_nobody_reads_yet(self) -> None:
        """A FIFO that nobody reads opens at once; its first reader gets what was written before."""
        log = self.open()
        log.write(LINE)
        log.flush()
        self.assertEqual(read_all(self.reader()), LINE)

    def test_stuck_reader(self) -> None:
        """A reader that does not read costs neither waiting nor memory without bound; when it reads, lines are whole."""
        log = self.open()
        reader = self.reader()
        count = 3 * MOST_KEPT // len(LINE)
        for n in range(count):
            log.write(b"%099d\n" % n)
        self.assertEqual(
            self.said,
            [f"access log {self.path}: nobody reads it; up to 1 MiB of lines is kept, more is dropped"],
        )
        received = self.drain(reader)
        numbers = [int(line) for line in received.splitlines()]
        lost = count - len(numbers)
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertGreater(len(numbers) * len(LINE), MOST_KEPT - len(LINE))
        self.assertEqual(self.said[1:], [f"access log {self.path}: written again, {lost} lines were lost"])

    def test_line_longer_than_the_pipe(self) -> None:
        """The kernel takes a part of a very long line; the rest follows."""
        log = self.open()
        reader = self.reader()
        long = b"y" * 200_000 + b"\n"
        log.write(long)
        log.write(LINE)
        log.flush()
        self.assertEqual(self.drain(reader), long + LINE)

    def drain(self, reader: int) -> bytes:
        """All that arrives while seconds go by."""
        data = b""
        while self.clock.getDelayedCalls():
            data += read_all(reader)
            self.clock.advance(FLUSH_DELAY)
        return data + read_all(reader)


class StandardOutputTests(_LogFileTestCase):
    def stand_in(self, fd: int) -> None:
        """Make `fd` be standard output to the module."""
        self.patch(logfile, "_STDOUT", fd)

    def pipe(self) -> tuple[int, int]:
        """A pipe whose writing end is standard output."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        self.stand_in(writer)
        self.addCleanup(os.close, writer)
        return reader, writer

    def test_stuck_pipe(self) -> None:
        """A full pipe, whose descriptor would block, is left alone; its flags are not ours to change."""
        reader, writer = self.pipe()
        self.addCleanup(os.close, reader)
        log = self.open("-")
        for _ in range(2 * MOST_KEPT // len(LINE)):
            log.write(LINE)
        self.assertTrue(os.get_blocking(writer))
        data = read_all(reader)
        self.assertGreater(len(data), 0)
        self.assertEqual(data, LINE * (len(data) // len(LINE)))
        log.close()

    def test_stuck_pipe_is_told_afterwards(self) -> None:
        """While standard output is stuck nothing is said, since twistd's own log would be stuck in it, too."""
        reader, _ = self.pipe()
        self.addCleanup(os.close, reader)
        log = self.open("-")
        for _ in range(2 * MOST_KEPT // len(LINE)):
            log.write(LINE)
        self.assertEqual(self.said, [])
        received = b""
        while self.clock.getDelayedCalls():
            received += read_all(reader)
            self.clock.advance(FLUSH_DELAY)
        received += read_all(reader)
        lost = 2 * MOST_KEPT // len(LINE) - len(received) // len(LINE)
        self.assertGreater(lost, 0)
        self.assertEqual(self.said, [f"access log -: written again, {lost} lines were lost"])

    def test_closed_pipe(self) -> None:
        """When the reader has gone, lines are dropped, and that is said once."""
        reader, _ = self.pipe()
        log = self.open("-")
        os.close(reader)
        for _ in range(3):
            log.write(LINE)
            self.clock.advance(FLUSH_DELAY)
        self.assertEqual(self.said, ["access log -: Broken pipe; up to 1 MiB of lines is kept, more is dropped"])

    def test_terminal(self) -> None:
        """A terminal that takes no more does not make us wait, and its descriptor stays as it was."""
        master, slave = pty.openpty()
        os.set_blocking(master, False)
        self.addCleanup(os.close, master)
        self.addCleanup(os.close, slave)
        self.stand_in(slave)
        log = self.open("-")
        for _ in range(MOST_KEPT // len(LINE)):
            log.write(LINE)
        self.assertIn(LINE.strip(), read_all(master))
        self.assertTrue(os.get_blocking(slave))

    def test_stays_open(self) -> None:
        """Neither reopen() nor close() closes standard output."""
        reader, writer = self.pipe()
        self.addCleanup(os.close, reader)
        log = LogFile(self.clock, "-")
        log.write(LINE)
        log.reopen()
        self.assertEqual(read_all(reader), LINE)
        log.close()
        self.assertEqual(os.write(writer, b"still open"), 10)
