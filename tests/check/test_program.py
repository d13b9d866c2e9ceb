"""pylb.check.program: programs whose exit status decides."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from twisted.internet.defer import Deferred

from pylb.model import ExecCheck, InetAddress, UnixAddress
from tests.backends import until
from tests.check.asking import Asking

WHERE = InetAddress("127.0.0.1", 8080)


def python(code: str) -> ExecCheck:
    """A program that begins quickly."""
    return ExecCheck(command=(sys.executable, "-S", "-E", "-c", code))


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


class ProgramTests(Asking):
    async def test_good(self):
        """Exit status 0, whatever it writes."""
        self.assertIsNone(await self.verdict(ExecCheck(command=("true",)), WHERE))
        self.assertIsNone(await self.verdict(ExecCheck(command=("echo", "failed")), WHERE))

    async def test_bad(self):
        """Any other; the first line that it wrote is the reason, and the first of its errors a better one."""
        self.assertEqual(await self.verdict(ExecCheck(command=("false",)), WHERE), "exit status 1")
        for script in ("echo; echo disk is full; echo more", "echo working; echo disk is full >&2"):
            spec = ExecCheck(command=("sh", "-c", f"{script}; exit 7"))
            self.assertEqual(await self.verdict(spec, WHERE), "exit status 7: disk is full")

    async def test_killed_by_somebody(self):
        spec = ExecCheck(command=("sh", "-c", "kill -TERM $$"))
        self.assertEqual(await self.verdict(spec, WHERE), "ended by signal 15")

    async def test_no_shell(self):
        """What a shell would understand is plain text."""
        self.assertIsNone(await self.verdict(ExecCheck(command=("test", "$HOME;*", "=", "$HOME;*")), WHERE))

    async def test_environment(self):
        """It knows whom to ask, and what pylb knows."""
        self.patch(os, "environ", {**os.environ, "MINE": "yes"})
        line = 'test "$PYLB_SERVER,$PYLB_ADDRESS,$PYLB_PORT,$MINE" = '
        for where, expected in (
            (WHERE, "127.0.0.1:8080,127.0.0.1,8080,yes"),
            (UnixAddress("/run/a"), "unix:/run/a,/run/a,,yes"),
        ):
            self.assertIsNone(await self.verdict(ExecCheck(command=("sh", "-c", line + expected)), where))

    async def test_nothing_to_read(self):
        """It has no input to wait for."""
        self.assertIsNone(await self.verdict(ExecCheck(command=("cat",)), WHERE))

    async def test_writes_much(self):
        """More than a pipe holds neither stops it nor is kept."""
        code = "import sys; sys.stdout.write('x' * 160000); sys.stderr.write('y' * 160000); sys.exit(3)"
        self.assertEqual(await self.verdict(python(code), WHERE), f"exit status 3: {'y' * 200}")

    async def test_writes_for_ever(self):
        """One that does not stop is not listened to until it is late: it is killed, with all that it has started."""
        path = Path(self.mktemp()).absolute()
        for where in ("", " >&2"):
            spec = ExecCheck(command=("sh", "-c", f"yes{where} & echo $! > {path}; wait"))
            self.assertEqual(await self.verdict(spec, WHERE), "writes more than 320 KiB")
            pid = int(path.read_text())
            await until(lambda pid=pid: not runs(pid))

    async def test_hangs(self):
        """One that takes too long is killed, though it minds no other signal."""
        path = Path(self.mktemp()).absolute()
        spec = ExecCheck(
            command=(
                "sh",
                "-c",
                f"trap '' TERM INT HUP; echo $$ > {path}.new; mv {path}.new {path}; while :; do sleep 0.05; done",
            )
        )
        asked = self.ask_in_background(spec)
        await until(path.exists)
        pid = int(path.read_text())
        self.assertTrue(runs(pid))
        asked.cancel()
        await until(lambda: not Path(f"/proc/{pid}").exists())

    async def test_hangs_with_others(self):
        """What it waits for itself is killed with it."""
        other = await self.give_up_who_waits()
        await until(lambda: not runs(other))

    async def test_hangs_without_setsid(self):
        """Where no program can be started with a process group of its own, it is killed all the same."""
        which = shutil.which
        self.patch(shutil, "which", lambda name: None if name == "setsid" else which(name))
        other = await self.give_up_who_waits()
        self.assertTrue(runs(other))
        os.kill(other, 9)

    async def give_up_who_waits(self) -> int:
        """Have a program killed that waits for another one, which is returned."""
        path = Path(self.mktemp()).absolute()
        script = f"sleep 60 & echo $$ $! > {path}.new; mv {path}.new {path}; wait"
        asked = self.ask_in_background(ExecCheck(command=("sh", "-c", script)))
        await until(path.exists)
        pid, other = map(int, path.read_text().split())
        self.assertTrue(runs(pid) and runs(other))
        asked.cancel()
        await until(lambda: not Path(f"/proc/{pid}").exists())
        return other

    def ask_in_background(self, spec: ExecCheck) -> Deferred[None]:
        asked = Deferred.fromCoroutine(self.verdict(spec, WHERE))
        asked.addErrback(lambda failure: None)
        return asked

    async def test_leaves_somebody_behind(self):
        """What it has started in the background does not hold up a good end."""
        path = Path(self.mktemp()).absolute()
        spec = ExecCheck(command=("sh", "-c", f"sleep 60 & echo $! > {path}"))
        self.assertIsNone(await self.verdict(spec, WHERE))
        os.kill(int(path.read_text()), 9)

    async def test_leaves_somebody_behind_with_its_pipes(self):
        """Nor a bad one, whose reason is not lost though it holds the pipes; it goes on."""
        path = Path(self.mktemp()).absolute()
        for end, reason in (("exit 3", "exit status 3: why"), ("kill -TERM $$", "ended by signal 15: why")):
            spec = ExecCheck(command=("sh", "-c", f"echo why >&2; sleep 60 & echo $! > {path}; {end}"))
            told = await self.verdict(spec, WHERE)
            pid = int(path.read_text())
            self.addCleanup(os.kill, pid, 9)
            self.assertEqual((told, runs(pid)), (reason, True))

    async def test_cannot_be_started(self):
        """Neither one that is not there nor one that may not be run."""
        path = Path(self.mktemp()).absolute()
        path.write_text("#!/bin/sh\n")
        for command in (f"{path}.missing", str(path)):
            reason = await self.verdict(ExecCheck(command=(command,)), WHERE)
            self.assertEqual(reason, f"{command} is not there, or may not be run")
