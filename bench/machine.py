"""Where was it measured?  What tells about speed, and nothing that tells whose machine it is."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from bench.targets import program

__all__ = ["describe", "read_model", "read_version"]


def describe() -> dict[str, str]:
    """The processor, the system, and the versions of what is compared."""
    return {
        "processor": f"{os.cpu_count()} cores of {read_model(Path('/proc/cpuinfo').read_text(encoding='utf-8'))}",
        "system": "Linux " + ".".join(platform.release().split(".")[:2]),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "twisted": f"Twisted {version('Twisted')}",
        "nginx": f"nginx {_version('nginx')}",
        "haproxy": f"HAProxy {_version('haproxy')}",
    }


def read_model(cpuinfo: str) -> str:
    """The processor's name, from /proc/cpuinfo."""
    found = re.search(r"^model name\s*: (.*)$", cpuinfo, re.M)
    return found[1] if found else platform.machine()


def read_version(said: str) -> str:
    """The version, from what nginx or HAProxy says to `-v`."""
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else "of unknown version"


def _version(name: str) -> str:
    said = subprocess.run([program(name), "-v"], capture_output=True, text=True, check=True)
    return read_version(said.stdout + said.stderr)
