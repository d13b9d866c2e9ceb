"""How the program starts, or says why it does not; in the foreground, as a daemon, as a demo."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from tests.backends import Peer, socket_path, until
from tests.functional.rig import (
    READY,
    TREE,
    EchoRig,
    Rig,
    all_at_once,
    ask_http,
    ask_udp,
    free_port,
    refuses,
)

#: Makes the system's resolver hang.
HANGING_NAME = """
import socket, time
known = socket.getaddrinfo
def getaddrinfo(host, *more, **named):
    if host == "hanging.test":
        print("looked up", flush=True)
        time.sleep(60)
    return known(host, *more, **named)
socket.getaddrinfo = getaddrinfo
"""

#: Leaves the program without a way to accept.
NO_WAY = """
import pylb.proxy.listen
def listen_stream(*arguments):
    raise OSError("no way")
pylb.proxy.listen.listen_stream = listen_stream
"""

#: Takes the right to low ports away, from root and where anybody may have them as well.
NO_RIGHTS = """
import errno, os, socket
class Socket(socket.socket):
    def bind(self, where):
        if self.family != socket.AF_UNIX and where[1] < 1024:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        super().bind(where)
socket.socket = Socket
"""

IN_USE = "another program (or another pylb) uses it: stop that one or choose another port"


class ErrorTests(EchoRig):
    """Each is one clear text on standard error and the exit status 1: no traceback, no usage page."""

    async def refused(self, *arguments: str, daemon: bool = False, prelude: str = "") -> str:
        program = self.run_twistd(*([] if daemon else ["-n"]), "--pidfile=", "pylb", *arguments, prelude=prelude)
        self.assertEqual(await program.ended(), 1, program.said)
        self.assertNotRegex(program.said, r"Traceback|Usage:|Options:|\[-\]")
        return program.said

    async def test_files(self):
        """A file that is missing, a folder, empty or rubbish; an option that is misspelt; a certificate that is none."""
        paths = {name: self.folder / name for name in ("missing", "folder", "empty", "rubbish", "certificate")}
        paths["folder"].mkdir()
        paths["empty"].write_bytes(b"")
        paths["rubbish"].write_bytes(bytes(range(256)))
        paths["certificate"].write_text(
            "pools: {p: {servers: [127.0.0.1:9]}}\n"
            "listeners:\n"
            f"  a: {{protocol: tcp, listen: 127.0.0.1:{free_port()}, pool: p,\n"
            "      tls: {certificates: [{cert: rubbish, key: missing}]}}\n"
        )
        errors = await all_at_once(
            [*(self.refused("--config", name) for name in paths), self.refused("--confog", "empty")]
        )
        for path, error in zip(paths.values(), errors[:-1], strict=True):
            self.assertTrue(error.startswith(f"{path}"), error)
        for word, error in zip(
            ("No such", "directory", "empty", "", f"{paths['certificate']}:4:", "--confog"), errors, strict=True
        ):
            self.assertIn(word, error)
            self.assertLessEqual(len(error.splitlines()), 2, error)

    async def test_addresses(self):
        """What somebody has, what the machine has not, what root alone may have: each is told, and what to do."""
        port = free_port()
        taken = socket_path(self)
        wrong = {
            f"127.0.0.1:{port}": f"tcp 127.0.0.1:{port}: Address already in use; {IN_USE}",
            f"unix:{taken}": f"unix:{taken}: Address already in use; {IN_USE}",
            "192.0.2.1:8080": "tcp 192.0.2.1:8080: Cannot assign requested address; "
            "no interface of this machine has that address",
            "127.0.0.1:80": "tcp 127.0.0.1:80: Permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        }
        config = self.echo(port)
        config["listeners"]["echo"]["listen"] = list(wrong)
        path = self.configure(**config)
        with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
            tcp.bind(("127.0.0.1", port))
            tcp.listen()
            unix.bind(str(taken))
            unix.listen()
            error = await self.refused("--config", str(path), prelude=NO_RIGHTS)
        place = f"{path}:1:{path.read_text().index(json.dumps(list(wrong))) + 1}: listeners.echo"
        self.assertEqual(error.splitlines(), [f"{place}: cannot listen on {problem}" for problem in wrong.values()])

    async def test_standard_output_in_a_daemon(self):
        path = self.configure(**self.echo(free_port(), access_log={"path": "-"}))
        self.assertIn("a daemon has no standard output", await self.refused("--config", str(path), daemon=True))


class ForegroundTests(EchoRig):
    async def test_what_it_says(self):
        """The file, the version, every listener with its address, and the room, with the limit of descriptors raised."""
        port = free_port()
        config = self.echo(port)
        config["listeners"]["echo"]["listen"] = [f"127.0.0.1:{port}", f"[::1]:{port}", f"unix:{socket_path(self)}"]
        path = self.configure(**config)
        program = self.run_twistd("-n", "--pidfile=", "pylb", "--config", str(path))
        await program.says(READY)
        self.assertIn(f"configuration {path}\n", program.said)
        self.assertRegex(program.said, r"pylb \d+\.\d+\S* serves")
        for where in config["listeners"]["echo"]["listen"]:
            self.assertIn(f"listener echo: tcp on {where}\n", program.said)
        soft, hard = re.search(
            r"Max open files\s+(\d+)\s+(\d+)", Path(f"/proc/{program.pid}/limits").read_text()
        ).groups()
        self.assertEqual(soft, hard)
        await self.ends(program, signal.SIGINT)
        self.assertFalse((self.folder / "s").exists())

    async def test_access_log_on_standard_output(self):
        port = free_port()
        program = await self.pylb(**self.echo(port, access_log={"path": "-"}))
        (await self.client(port)).transport.loseConnection()
        await program.says(r"(?m)^127\.0\.0\.1 .* echo ")
        await self.ends(program)

    async def test_hanging_name(self):
        """A look-up that hangs keeps neither clients from connecting nor the program from ending."""
        port = free_port()
        config = self.echo(port)
        config["pools"]["p"]["servers"] = ["hanging.test:80"]
        program = self.run_twistd(
            "-n", "--pidfile=", "pylb", "--config", str(self.configure(**config)), prelude=HANGING_NAME
        )
        await program.says("looked up")
        client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Peer())
        await self.ends(program)
        await until(lambda: client.lost)

    async def test_cannot_serve(self):
        """A program that turns out to be unable to serve does not linger, whether it waited for names or not."""
        for server in ("127.0.0.1:9", "localhost:9"):
            config = self.echo(free_port())
            config["pools"]["p"]["servers"] = [server]
            program = self.run_twistd(
                "-n", "--pidfile=", "pylb", "--config", str(self.configure(**config)), prelude=NO_WAY
            )
            self.assertEqual(await program.ended(), 1, program.said)
            self.assertIn("pylb cannot serve", program.said)

    async def test_other_reactors(self):
        """twistd's -r chooses another reactor; all of it works there, too."""
        for name in ("select", "asyncio"):
            port = free_port()
            program = self.run_twistd(
                "-n", "-r", name, "--pidfile=", "pylb", "--config", str(self.configure(**self.echo(port)))
            )
            await program.says(READY)
            (await self.client(port)).transport.loseConnection()
            await self.ends(program)

    async def test_stale_socket(self):
        """A Unix socket that a killed pylb left behind is replaced."""
        path = socket_path(self)
        config = self.echo(free_port())
        config["listeners"]["echo"]["listen"] = f"unix:{path}"
        program = await self.pylb(**config)
        program.signal(signal.SIGKILL)
        await program.ended()
        self.assertTrue(path.is_socket())
        await self.ends(await self.pylb(**config))


class DaemonTests(EchoRig):
    async def test_daemon(self):
        """From any folder: the configuration and the files it names are found, serving begins before twistd returns."""
        port = free_port()
        (self.folder / "run").mkdir()
        self.configure(**self.echo(port, access_log={"path": "access.log"}))
        log = self.folder / "run" / "twistd.log"
        program = self.run_twistd(
            "--pidfile", str(self.folder / "pid"), "--logfile", str(log), "-d", "run", "pylb", "--config", "lb.yaml"
        )
        self.assertEqual(await program.ended(), 0, program.said)
        pid = int((self.folder / "pid").read_text())
        self.addCleanup(end, pid)
        (await self.client(port)).transport.loseConnection()
        os.kill(pid, signal.SIGUSR1)
        # twistd's own answer to SIGUSR1 moves its log away.
        rotated = log.with_name("twistd.log.1")
        await until(rotated.exists)
        os.kill(pid, signal.SIGTERM)
        await until(lambda: not (self.folder / "pid").exists())
        await until(lambda: not alive(pid))
        self.assertEqual(len((self.folder / "access.log").read_text().splitlines()), 1)
        self.assertNotIn("Traceback", rotated.read_text() + log.read_text())


class DemoTests(Rig):
    async def test_demo(self):
        """etc/demo.yaml, here on free ports, prints where it serves, answers, and ends by Ctrl-C."""
        text = (TREE / "etc" / "demo.yaml").read_text()
        numbers = {number: str(free_port()) for number in sorted(set(re.findall(r"127\.0\.0\.1:(\d+)", text)))}
        self.assertEqual(len(numbers), 10)
        path = self.folder / "demo.yaml"
        path.write_text(re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda found: numbers[found[0]], text))
        program = self.run_twistd("-n", "--pidfile=", "pylb", "--config", str(path), "--demo")
        await program.says("Ctrl-C ends all of it")
        web, echo, time = (int(numbers[number]) for number in ("8080", "9000", "9100"))
        for line in (f"http://127.0.0.1:{web}/", f"tcp 127.0.0.1:{echo}", f"udp 127.0.0.1:{time}"):
            self.assertIn(line, program.said)
        for _ in range(3):
            status, body = await ask_http(web)
            self.assertEqual(status, 200)
            self.assertRegex(body, rb"^server 127\.0\.0\.1:\d+ answers GET /\n$")
        self.assertRegex(await ask_udp(time, b"hello"), rb"^server 127\.0\.0\.1:\d+: hello$")
        await self.ends(program, signal.SIGINT)
        self.assertTrue(all(refuses(int(number)) for number in numbers.values()))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # What nobody reaps in a container stays as a zombie.
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def end(pid: int) -> None:
    if alive(pid):
        os.kill(pid, signal.SIGKILL)
