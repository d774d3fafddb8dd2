"""Names of processes, and whether one still lives: ids are reused, so its start time counts too."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

PS_S = 5.0


def unique_name() -> str:
    """A name for this process that says where it runs, fit for keys."""
    return f"{host_name()}-{os.getpid()}-{os.urandom(3).hex()}"


def started_at(pid: int) -> str | None:
    """The process's start time, as text that only compares; None where it has ended (a zombie has)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() else _from_ps(pid)
    # The name is in parentheses and may hold anything: fields count from the last one.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def is_alive(pid: int, started: str) -> bool:
    """Whether exactly that process lives."""
    return bool(started) and started_at(pid) == started


def let_go(process: subprocess.Popen[bytes]) -> None:
    """It is meant to outlive this process: no ResourceWarning, no waiting at exit. Who wants its exit waits by id."""
    if process.poll() is None:
        process.returncode = 0


def owner() -> str:
    """This process's name for those that shall end with it: `<pid>:<start time>`."""
    return f"{os.getpid()}:{started_at(os.getpid())}"


def is_owner_alive(text: str) -> bool:
    """Whether the process lives that `owner()` named so."""
    pid, _, started = text.partition(":")
    return is_alive(int(pid), started)


def is_stopped(pid: int) -> bool:
    """Whether it is stopped by a signal or a debugger."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return False
    return _ps(pid, "stat=").startswith("T")


def memory_bytes(pid: int) -> int:
    """The process's resident memory; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/statm").exists():
            return 0
    return int(_ps(pid, "rss=") or 0) * 1024


def host_name() -> str:
    """This machine's name, fit for keys."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in socket.gethostname())[:32]


def _from_ps(pid: int) -> str | None:
    found = _ps(pid, "stat=,lstart=")
    state, _, start = found.partition(" ")
    return None if not found or state.startswith("Z") else start.strip()


def is_traced() -> bool:
    """Whether somebody set up an OpenTelemetry provider here. Its API alone does not count: redis-py imports that
    where it is installed, and a span that nobody gets costs as much as a short step."""
    trace = sys.modules.get("opentelemetry.trace")
    return trace is not None and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _ps(pid: int, columns: str) -> str:
    """What `ps` says of a process; empty where there is none."""
    command = ["ps", "-o", columns, "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PS_S).stdout.strip()
