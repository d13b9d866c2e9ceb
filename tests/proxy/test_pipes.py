"""Which pipes are there to pass bytes through, within the kernel?"""

from __future__ import annotations

import errno
import fcntl
import os
import socket

from twisted.trial.unittest import SynchronousTestCase

from pylb.proxy.pipes import Pipe, Pipes


class PipeCase(SynchronousTestCase):
    if not hasattr(os, "splice"):
        skip = "this system has no splice"

    def sockets(self) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        for sock in pair:
            sock.setblocking(False)
            self.addCleanup(sock.close)
        return pair


class PipeTests(PipeCase):
    def setUp(self) -> None:
        self.pipe = Pipe()
        self.addCleanup(self.pipe.close)
        self.peer, self.source = self.sockets()
        self.sink, self.other = self.sockets()

    def test_passes(self) -> None:
        """What is taken from one socket is given to the other, no more at a time than is asked for."""
        self.peer.send(b"abcdef")
        self.assertEqual((self.pipe.fill(self.source.fileno(), 4), self.pipe.held), (4, 4))
        self.assertEqual((self.pipe.drain(self.sink.fileno()), self.pipe.held), (4, 0))
        self.assertEqual((self.other.recv(9), self.source.recv(9)), (b"abcd", b"ef"))

    def test_nothing_there(self) -> None:
        """It waits for neither end."""
        self.assertRaises(BlockingIOError, self.pipe.fill, self.source.fileno(), 4)

    def test_end(self) -> None:
        """The end of a socket is nothing."""
        self.peer.close()
        self.assertEqual(self.pipe.fill(self.source.fileno(), 4), 0)


class PipesTests(PipeCase):
    def setUp(self) -> None:
        self.pipes = Pipes(2)
        self.addCleanup(self.pipes.close)

    def test_bounded(self) -> None:
        """There are so many and no more; one that is given back can be had again."""
        one, two = self.pipes.take(), self.pipes.take()
        self.assertEqual((self.pipes.take(), len(self.pipes)), (None, 2))
        self.pipes.give_back(one)
        self.assertIs(self.pipes.take(), one)
        self.pipes.give_back(one)
        self.pipes.give_back(two)
        self.pipes.close()
        self.assertEqual(len(self.pipes), 0)

    def test_not_empty(self) -> None:
        """One that holds something is closed, and another takes its place."""
        peer, source = self.sockets()
        peer.send(b"secret")
        pipe = self.pipes.take()
        pipe.fill(source.fileno(), 9)
        self.pipes.give_back(pipe)
        self.assertEqual(len(self.pipes), 0)
        self.assertIsNot(self.pipes.take(), pipe)
        self.pipes.give_back(Pipe())

    def test_small(self) -> None:
        """One that may not be large (pipe(7) bounds what a user has in all) is none, and leaves nothing open."""

        def refused(fd: int, command: int, size: int) -> int:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        before = len(os.listdir("/proc/self/fd"))
        self.patch(fcntl, "fcntl", refused)
        self.assertIsNone(self.pipes.take())
        self.assertEqual((len(self.pipes), len(os.listdir("/proc/self/fd"))), (0, before))

    def test_no_descriptor(self) -> None:
        """Without a descriptor there is none, and one later."""

        def none_left():
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        with self.patch(os, "pipe", none_left):
            self.assertIsNone(self.pipes.take())
        self.assertEqual(len(self.pipes), 0)
        self.pipes.give_back(self.pipes.take())

    def test_no_splice(self) -> None:
        """Where the system has no splice there is none."""
        self.patch(os, "splice", None)
        del os.splice
        self.assertIsNone(Pipes(2).take())
