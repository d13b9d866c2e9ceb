"""wrk and ab: how are they called, and what do they say?

A load during which a connection broke, or a request was answered with anything but success, has failed.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.outcome import SECONDS, LoadFailed, Outcome

__all__ = ["CONNECTIONS", "ab", "read_ab", "read_wrk", "wrk"]

CONNECTIONS = 32

#: Of the figures that wrk prints; the times are in seconds, the others count.
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, "k": 1e3, "M": 1e6}
#: ab asks for room for so many results before it starts.
_MOST = 200_000


def wrk(port: int, scheme: str = "http", headers: tuple[str, ...] = ()) -> Outcome:
    """Requests for `/`, one after the other on each of the kept connections.  Raises LoadFailed."""
    options = [f"-d{SECONDS}", f"-c{CONNECTIONS}", "-t1", "--latency", *(f"-H{header}" for header in headers)]
    return read_wrk(_run("wrk", *options, f"{scheme}://127.0.0.1:{port}/"))


def ab(port: int, scheme: str = "http", headers: tuple[str, ...] = ()) -> Outcome:
    """Requests for `/`, each on a connection (and with a TLS handshake) of its own.  Raises LoadFailed."""
    with TemporaryDirectory() as folder:
        percentiles = Path(folder, "percentiles")
        options = ["-q", f"-t{SECONDS}", f"-n{_MOST}", f"-c{CONNECTIONS}", f"-e{percentiles}"]
        said = _run("ab", *options, *(f"-H{header}" for header in headers), f"{scheme}://127.0.0.1:{port}/")
        return read_ab(said, percentiles.read_text(encoding="ascii"))


def read_wrk(said: str) -> Outcome:
    """What wrk printed.  Raises LoadFailed."""
    if errors := re.search(r"Socket errors: .*|Non-2xx or 3xx responses: .*", said):
        raise LoadFailed(f"wrk: {errors[0]}")
    requests = _find(r"(\d+) requests in ", said)
    seconds = requests / _find(r"Requests/sec: +([\d.]+)", said)
    return Outcome(requests, seconds, _find(r" 50% +(\S+)", said), _find(r" 99% +(\S+)", said))


def read_ab(said: str, percentiles: str) -> Outcome:
    """What ab printed, and what it wrote of the times, in milliseconds (`-e`).  Raises LoadFailed."""
    if errors := re.search(r"(Failed requests|Non-2xx responses): +[1-9].*", said):
        raise LoadFailed(f"ab: {errors[0]}")
    requests, seconds = _find(r"Complete requests: +(\d+)", said), _find(r"Time taken for tests: +([\d.]+)", said)
    p50, p99 = (_find(rf"(?m)^{percent},([\d.]+)$", percentiles) / 1000 for percent in (50, 99))
    return Outcome(requests, seconds, p50, p99)


def _find(pattern: str, said: str) -> float:
    """The figure that the pattern's group finds, in seconds if it is a time."""
    if (found := re.search(pattern, said)) and (figure := re.fullmatch(r"([\d.]+)(\D*)", found[1])):
        number = float(figure[1]) * _UNITS[figure[2]]
        if number:
            return number
    raise LoadFailed(f"nothing was done: {said.strip()[-200:]!r}")


def _run(*command: str) -> str:
    """What a program printed.  Raises LoadFailed when it fails or does not end."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS + 10).stdout
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"{command[0]} did not end") from error
    except subprocess.CalledProcessError as error:
        raise LoadFailed(f"{command[0]}: {error.stderr.strip()[-200:]}") from error
