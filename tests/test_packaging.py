"""What does somebody get who installs pylb?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

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


@cache
def build(folder: Path) -> Path:
    """The wheel of this tree, built in `folder`."""
    shutil.copytree(ROOT, folder / "sources", ignore=LEFTOVERS)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "sources")
    (wheel,) = folder.glob("*.whl")
    return wheel


class WheelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.wheel = build(Path("wheel").absolute())

    def test_contents(self) -> None:
        """The wheel holds every module of pylb, py.typed, and the plugin; no tests, nothing else of a developer's."""
        names = {name for name in zipfile.ZipFile(self.wheel).namelist() if ".dist-info/" not in name}
        modules = {str(path.relative_to(ROOT)) for path in (ROOT / "pylb").rglob("*.py")}
        self.assertEqual(modules - names, set())
        self.assertIn("pylb/py.typed", names)
        self.assertEqual({name for name in names if not name.startswith("pylb/")}, {"twisted/plugins/pylb_plugin.py"})

    def test_twistd_finds_the_plugin(self) -> None:
        """Once pylb is installed, twistd knows it in whatever folder it is started."""
        target = Path(self.mktemp()).absolute()
        pip("install", "--no-deps", "--target", target, self.wheel)
        told = subprocess.run(
            [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "--help"],
            check=True,
            capture_output=True,
            text=True,
            cwd=target,
            env=os.environ | {"PYTHONPATH": str(target)},
        )
        self.assertRegex(told.stdout, r"\n +pylb +A load balancer for TCP, UDP and HTTP")
        cache = target / "twisted" / "plugins" / "dropin.cache"
        self.assertTrue(cache.exists(), "the plugin was found in another place")
