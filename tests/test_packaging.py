"""What does somebody get who installs pylb?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.functional.rig import READY, TWISTD, Program, Rig, ask_tcp, free_port

ROOT = Path(__file__).parent.parent

#: What lies in the tree of a developer and not in a fresh clone.
LEFTOVERS = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "*.egg-info", "_trial_temp*", "__pycache__", "dropin.cache", ".*_cache"
)


def pip(*arguments: str | Path) -> None:
    """Run pip without the network; raises CalledProcessError, with what pip said."""
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PIP_NO_INDEX": "1"},
    )


def sources(folder: Path) -> Path:
    """A fresh copy of this tree, below `folder`."""
    return shutil.copytree(ROOT, folder / "sources", ignore=LEFTOVERS)


@cache
def build(folder: Path) -> Path:
    """The wheel of this tree, built in `folder`."""
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, sources(folder))
    (wheel,) = folder.glob("*.whl")
    return wheel


class WheelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.wheel = build(Path("wheel").absolute())

    def test_contents(self) -> None:
        """The wheel holds every module of pylb, py.typed, what `pylb schema` reads, and the plugin; no tests, nothing else
        of a developer's."""
        names = {name for name in zipfile.ZipFile(self.wheel).namelist() if ".dist-info/" not in name}
        modules = {str(path.relative_to(ROOT)) for path in (ROOT / "pylb").rglob("*.py")}
        self.assertEqual(modules - names, set())
        self.assertLessEqual({"pylb/py.typed", "pylb/config/reference.md"}, names)
        self.assertEqual({name for name in names if not name.startswith("pylb/")}, {"twisted/plugins/pylb_plugin.py"})


@cache
def installed(folder: Path) -> Path:
    """The Python of a new environment in `folder` that has pylb, and nothing of this tree."""
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    [packages] = (folder / "env").glob("lib/python*/site-packages")
    # What pylb needs is there already; of this environment's own .pth files, which may name the tree, none is read.
    (packages / "dependencies.pth").write_text("\n".join({*map(sysconfig.get_path, ("purelib", "platlib"))}))
    pip("--python", python, "install", "--no-deps", "--no-build-isolation", sources(folder))
    return python


class InstalledTests(Rig):
    """pip install ."""

    def setUp(self) -> None:
        super().setUp()
        self.python = str(installed(Path("installed").absolute()))

    def run_installed(self, *command: str) -> Program:
        return self.start(*command, path="")

    async def test_serves(self) -> None:
        """In whatever folder, twistd finds the plugin, and serves with what was installed."""
        server, port = self.tcp("server"), free_port()
        self.configure(
            pools={"p": {"servers": [server.address]}},
            listeners={"echo": {"protocol": "tcp", "listen": f"127.0.0.1:{port}", "pool": "p"}},
        )
        arguments = "-n", "--pidfile=", "pylb", "--config", "lb.yaml"
        program = self.run_installed(self.python, "-c", f"import pylb; print(pylb.__file__); {TWISTD}", *arguments)
        await program.says(READY)
        self.assertTrue(program.said.startswith(str(Path("installed").absolute())), program.said)
        self.assertEqual(await ask_tcp(port), b"server")
        await self.ends(program)

    async def test_checks(self) -> None:
        """The command is there, and judges a configuration."""
        command = str(Path(self.python).with_name("pylb"))
        self.configure(pools={}, listeners={})
        wrong = self.run_installed(command, "check", "lb.yaml")
        self.assertEqual(await wrong.ended(), 1, wrong.said)
        self.configure(
            pools={"p": {"servers": ["127.0.0.1:9001"]}},
            listeners={"echo": {"protocol": "tcp", "listen": "127.0.0.1:9000", "pool": "p"}},
        )
        right = self.run_installed(command, "check", "lb.yaml")
        self.assertEqual(await right.ended(), 0, right.said)
        self.assertEqual(right.said, "lb.yaml: ok, 1 pool, 1 server, 1 listener\n  echo: tcp on 127.0.0.1:9000 -> p\n")

    async def test_prints_the_schema(self) -> None:
        """So it does with what editors need, which comes from a page of the documentation."""
        told = self.run_installed(str(Path(self.python).with_name("pylb")), "schema")
        self.assertEqual(await told.ended(), 0, told.said)
        self.assertEqual(told.said, (ROOT / "etc" / "lb.schema.json").read_text())
