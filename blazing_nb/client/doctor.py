"""What can be wrong with a server, a key, the workers of an app: looked at, said, with what to do."""

from __future__ import annotations

import os
import stat
import statistics
import sys
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from blazing_nb import __version__
from blazing_nb.core.snapshot import Snapshot
from blazing_nb.errors import BlazingError
from blazing_nb.store.home import home
from blazing_nb.store.secret import key_path

if TYPE_CHECKING:
    import pandas as pd

    from blazing_nb.client.app import Blazing

GOOD, DOUBT, BAD = "good", "doubt", "bad"
PINGS = 20
SLOW_PING_MS = 20.0
CLOCK_S = 2.0
MEMORY_SHARE = 0.8
START = "Start some: app.workers.start(2)."


class Finding(NamedTuple):
    """One look: what at, how it is (good, doubt or bad), what was seen, and what to do where it is not good."""

    subject: str
    state: str
    seen: str
    advice: str = ""


class Diagnosis:
    """All findings. `healthy` where nothing is bad."""

    def __init__(self, app_id: str, findings: list[Finding]) -> None:
        self.app_id = app_id
        self.findings = findings

    @property
    def healthy(self) -> bool:
        return all(finding.state != BAD for finding in self.findings)

    def __repr__(self) -> str:
        counts = {state: sum(f.state == state for f in self.findings) for state in (GOOD, DOUBT, BAD)}
        return f"<Diagnosis of {self.app_id}: {', '.join(f'{n} {state}' for state, n in counts.items())}>"

    def __str__(self) -> str:
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.state:6} {finding.subject:12} {finding.seen}")
            if finding.advice:
                lines.append(f"{'':19} -> {finding.advice}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in (f.state, f.subject, f.seen, f.advice)) + "</tr>"
            for f in self.findings
        )
        head = "<tr><th>state</th><th>subject</th><th>seen</th><th>what to do</th></tr>"
        return f"<p><code>{escape(repr(self))}</code></p><table>{head}{rows}</table>"

    def to_frame(self) -> pd.DataFrame:
        """One row a finding: subject, state, seen, advice."""
        import pandas as pd

        return pd.DataFrame(self.findings, columns=list(Finding._fields))


def diagnose(app: Blazing) -> Diagnosis:
    """Look at everything that can be reached; never raises for what it finds."""
    findings = list(_files(app.app_id))
    try:
        info = app.store.check(allow_eviction=True)
        findings += _server(app, info)
        findings += _workers(app.snapshot())
        findings += _failures(app)
    except BlazingError as error:
        findings.append(Finding("server", BAD, str(error), "Start it, or name another by url= or BLAZING_REDIS_URL."))
    return Diagnosis(app.app_id, findings)


def _files(app_id: str) -> Iterator[Finding]:
    folder = home()
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        yield Finding("state", BAD, f"{folder} has mode {mode:04o}: others can enter it", f"chmod 700 {folder}")
    else:
        yield Finding("state", GOOD, f"{folder}, private")
    named = os.environ.get("BLAZING_KEY_FILE")
    path = Path(named) if named else key_path(app_id)
    if named and not path.exists():
        yield Finding("key", BAD, f"BLAZING_KEY_FILE names {path}, which is missing", "Copy the app's key file there.")
        return
    if not path.exists():
        yield Finding(
            "key", DOUBT, "none yet", "It is made at the first enqueue; copy it to machines that run workers."
        )
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    state = BAD if mode & 0o077 else GOOD
    yield Finding("key", state, f"{path}, mode {mode:04o}", f"chmod 600 {path}" if state == BAD else "")


def _server(app: Blazing, info: dict[str, str]) -> Iterator[Finding]:
    brand = "valkey" if "valkey_version" in info else "redis"
    version = info.get(f"{brand}_version", info.get("redis_version", "?"))
    call = app.store.connection().call
    times = []
    for _ in range(PINGS):
        began = time.perf_counter()
        call("PING")
        times.append((time.perf_counter() - began) * 1000)
    ping = statistics.median(times)
    slow = "It is far away or busy: put workers and nodes nearer to it." if ping > SLOW_PING_MS else ""
    yield Finding("server", DOUBT if slow else GOOD, f"{brand} {version}, PING {ping:.2f} ms", slow)
    yield _policy(info)
    yield _persistence(info)
    used, limit = app.store.memory()
    full = bool(limit) and used > MEMORY_SHARE * limit
    advice = "Nothing is enqueued now: shorten retentions, drain, or raise maxmemory." if full else ""
    yield Finding("memory", BAD if full else GOOD, f"{used:,} bytes used of {f'{limit:,}' if limit else 'any'}", advice)
    seconds, micros = call("TIME")
    off = abs(int(seconds) + int(micros) / 1e6 - time.time())
    advice = "Only at= and expires= with a moment depend on it. Synchronise the clocks." if off > CLOCK_S else ""
    yield Finding("clock", DOUBT if advice else GOOD, f"{off:.1f} s between here and the server", advice)


def _policy(info: dict[str, str]) -> Finding:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction" or info.get("maxmemory", "0") == "0":
        return Finding("eviction", GOOD, policy)
    return Finding("eviction", BAD, policy, "Operations would vanish silently. Set maxmemory-policy noeviction.")


def _persistence(info: dict[str, str]) -> Finding:
    if info.get("aof_enabled") != "1":
        advice = "A restart loses what was not saved. Set appendonly yes."
        return Finding("persistence", DOUBT, "no append-only file", advice)
    if info.get("aof_last_write_status", "ok") != "ok":
        return Finding("persistence", BAD, "the append-only file cannot be written", "Look at the server's disk.")
    return Finding("persistence", GOOD, "append-only file")


def _workers(snapshot: Snapshot) -> Iterator[Finding]:
    workers = snapshot.workers
    if workers:
        yield Finding("workers", GOOD, f"{len(workers)}, {sum(worker.running for worker in workers)} operations held")
    elif snapshot.waiting:
        yield Finding("workers", BAD, f"none, and {snapshot.waiting} operations wait", START)
    else:
        yield Finding("workers", DOUBT, "none", START)
    late = [worker.worker_id for worker in workers if worker.lease_ms_left < 0]
    if late:
        yield Finding("leases", DOUBT, f"over: {', '.join(late)}", "Their operations run elsewhere in a moment.")
    yield from _skew(snapshot)


def _skew(snapshot: Snapshot) -> Iterator[Finding]:
    """Who cannot run what, of whatever cause."""
    workers = snapshot.workers
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    pythons = {worker.python for worker in workers if worker.python}
    other = sorted(python for python in pythons if not python.startswith(here + "."))
    if other:
        alone = len(other) == len(pythons)
        advice = f"Code of this kernel's cells runs on Python {here} only: start such workers."
        yield Finding("python", BAD if alone else DOUBT, f"{here} here, {', '.join(other)} on workers", advice)
    versions = sorted({worker.version for worker in workers if worker.version} | {__version__})
    if len(versions) > 1:
        advice = "Fine while you upgrade, workers first; then restart those that are behind."
        yield Finding("versions", DOUBT, f"{__version__} here; all: {', '.join(versions)}", advice)
    for need in snapshot.needs:
        seen = f"{need.operations} operations of {need.step} were given back: they need Python {need.python}"
        yield Finding("given back", BAD, seen, f"Start a worker of Python {need.python}; it takes them at once.")
    for worker in workers:
        for step, why in worker.refuses.items():
            advice = f"Install or mend it where {worker.worker_id} runs, and restart it; others get the operations."
            yield Finding("given back", BAD, f"{worker.worker_id} cannot load {step}: {why}", advice)


def _failures(app: Blazing) -> Iterator[Finding]:
    failed = app.failed()
    if len(failed):
        yield Finding(
            "failures", DOUBT, f"{len(failed)} operations ended without success", "See app.failed().to_frame()."
        )
    else:
        yield Finding("failures", GOOD, "none")
