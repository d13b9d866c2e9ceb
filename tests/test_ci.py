""".ci/run: what does it make of what make says?"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.functional.real import PACKAGES

RUN = Path(__file__).resolve().parents[1] / ".ci" / "run"

#: Stands in for make: `make lint` and `make test` end and say what the environment tells them.
MAKE = """#!/bin/sh
case $1 in
  lint) exit "$LINT" ;;
  test) echo "$SAID"; exit "$TEST" ;;
esac
exit 99
"""


#: What .ci/run calls, or finds to be there already.
TOOLS = ["bash", "dirname", "env", "git", "grep", "id", "mktemp", "openssl", "rm", "sh", "tail", "tee", "timeout"]

#: Stands in for whatever changes the system: says how it was called.
NOTED = """#!/bin/sh
echo "${0##*/} $*"
"""


class CiTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.program("make", MAKE)

    def program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)


class CountTests(CiTestCase):
    def last_lines(self, said: str, test: int = 0, lint: int = 0, lines: int = 1) -> tuple[str, int]:
        """The end of what .ci/run says, and its exit status."""
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "SAID": said, "TEST": str(test), "LINT": str(lint), "CI": ""}
        done = subprocess.run([RUN], env=environment, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.stderr, "")
        return "\n".join(done.stdout.splitlines()[-lines:]), done.returncode

    def test_passed(self) -> None:
        """Only when all has passed is the exit status 0."""
        self.assertEqual(self.last_lines("Ran 12 tests\n\nPASSED (successes=12)"), ("12 passed, 0 failed", 0))

    def test_failed(self) -> None:
        """Failures and errors are counted together."""
        said = "FAILED (failures=1, errors=2, successes=5)"
        self.assertEqual(self.last_lines(said, test=2), ("5 passed, 3 failed", 1))
        self.assertEqual(self.last_lines("FAILED (errors=10)", test=2), ("0 passed, 10 failed", 1))

    def test_not_run(self) -> None:
        """What was skipped, was expected to fail, or was not but did, has failed, although trial may be content."""
        for kind in ("skips", "expectedFailures", "unexpectedSuccesses"):
            self.assertEqual(self.last_lines(f"PASSED ({kind}=2, successes=3)"), ("3 passed, 2 failed", 1))

    def test_no_count(self) -> None:
        """A run that ends without a count, or has counted nothing, has failed once."""
        self.assertEqual(self.last_lines("No module named pylb", test=1), ("0 passed, 1 failed", 1))
        self.assertEqual(self.last_lines("PASSED"), ("0 passed, 1 failed", 1))
        self.assertEqual(self.last_lines(""), ("0 passed, 1 failed", 1))

    def test_broken_off(self) -> None:
        """If all tests have passed and make has failed all the same, so has the run."""
        self.assertEqual(self.last_lines("PASSED (successes=7)", test=137), ("7 passed, 1 failed", 1))

    def test_last_count(self) -> None:
        """A test that runs trial itself says a count, too: the last one is the run's."""
        said = "PASSED (successes=1)\nFAILED (failures=9)\nPASSED (successes=30)"
        self.assertEqual(self.last_lines(said), ("30 passed, 0 failed", 0))

    def test_lint(self) -> None:
        """What make lint finds fails the run, and is no test."""
        self.assertEqual(
            self.last_lines("PASSED (successes=4)", lint=2, lines=2), ("make lint failed\n4 passed, 0 failed", 1)
        )


class PackagesTests(CiTestCase):
    def test_servers(self) -> None:
        """In CI no test is skipped for want of a server: what is missing, and nothing else, is installed."""
        for tool in TOOLS:
            (self.folder / tool).symlink_to(shutil.which(tool))
        for program in ("apt-get", "install"):
            self.program(program, NOTED)
        self.program("python3", "#!/bin/sh\n")
        self.program("sudo", '#!/bin/sh\n"$@"\n')
        environment = {"PATH": str(self.folder), "SAID": "PASSED (successes=1)", "TEST": "0", "LINT": "0", "CI": "true"}
        done = subprocess.run([RUN], env=environment, capture_output=True, text=True, timeout=60)
        packages = " ".join(PACKAGES.values())
        said = f"apt-get update -q\napt-get install -qy --no-install-recommends {packages}\n"
        self.assertIn(said, done.stdout)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
