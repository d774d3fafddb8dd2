"""What can be wrong with a server, a key, the workers of an app: looked at, said, with what to do."""

from __future__ import annotations

import os
import stat
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from blazing_nb import __version__
from blazing_nb.client.supervising import Supervising
from blazing_nb.core.code import unseal_code
from blazing_nb.core.markup import card, drawn, table, tagged
from blazing_nb.core.snapshot import Snapshot
from blazing_nb.core.status import Status
from blazing_nb.errors import BlazingError, StoreUnsuitable, TrustError
from blazing_nb.store import query
from blazing_nb.store.generation import restored
from blazing_nb.store.home import home
from blazing_nb.store.secret import key_path

if TYPE_CHECKING:
    import pandas as pd

    from blazing_nb.client.app import Blazing

GOOD, DOUBT, BAD = "good", "doubt", "bad"
_MARK = {GOOD: "✓", DOUBT: "?", BAD: "✗"}
_COLOR = {GOOD: Status.SUCCEEDED, DOUBT: Status.RETRYING, BAD: Status.FAILED}
PINGS = 20
SLOW_PING_MS = 20.0
CLOCK_S = 2.0
MEMORY_SHARE = CLIENTS_SHARE = 0.8
BACKLOG_S = 60
STEPS = 50
START = "Start some: app.workers.start(2)."


class Finding(NamedTuple):
    """One look: what at, how it is (good, doubt or bad), what was seen, and what to do where it is not good."""

    subject: str
    state: str
    seen: str
    advice: str = ""


class Diagnosis:
    """All findings. `healthy` where nothing is bad.

    Examples:
        >>> diagnosis = app.doctor()
        >>> "server" in {finding.subject for finding in diagnosis.findings}
        True
    """

    def __init__(self, app_id: str, findings: list[Finding]) -> None:
        self.app_id = app_id
        self.findings = findings

    @property
    def healthy(self) -> bool:
        """Whether nothing is bad.

        Examples:
            >>> app.doctor().healthy in (True, False)
            True
        """
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

    @drawn
    def _repr_html_(self) -> str:
        rows = [(tagged(f.state, _COLOR[f.state], _MARK[f.state]), f.subject, f.seen, f.advice) for f in self.findings]
        counts = [(state, sum(f.state == state for f in self.findings)) for state in (GOOD, DOUBT, BAD)]
        return card("Diagnosis", self.app_id, counts, table(("state", "subject", "seen", "what to do"), rows))

    def to_frame(self) -> pd.DataFrame:
        """One row a finding: subject, state, seen, advice.

        Examples:
            >>> list(app.doctor().to_frame().columns)
            ['subject', 'state', 'seen', 'advice']
        """
        import pandas as pd

        return pd.DataFrame(self.findings, columns=list(Finding._fields))


def diagnose(app: Blazing) -> Diagnosis:
    """Look at everything that can be reached; never raises for what it finds."""
    findings = [*_files(app.app_id), *_places(app)]
    for look in (_server, _trust, _work, _failures):
        try:
            findings += look(app)
        except BlazingError as error:
            findings.append(_refused(error))
            break
    return Diagnosis(app.app_id, findings)


def _refused(error: BlazingError) -> Finding:
    """What kept us from looking on."""
    if "NOPERM" in str(error):
        advice = "Give the user the app's commands and keys: docs/howto/tls-and-acl.md."
        return Finding("permissions", BAD, str(error), advice)
    if isinstance(error, StoreUnsuitable):
        return Finding("server", BAD, str(error), "As it says.")
    return Finding("server", BAD, str(error), "Start it, or name another by url= or BLAZING_REDIS_URL.")


def _files(app_id: str) -> Iterator[Finding]:
    folder = home()
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        yield Finding("state", BAD, f"{folder} has mode {mode:04o}: others can enter it", f"chmod 700 {folder}")
    else:
        yield Finding("state", GOOD, f"{folder}, private")
    yield _key(app_id)


def _key(app_id: str) -> Finding:
    named = os.environ.get("BLAZING_KEY_FILE")
    path = Path(named) if named else key_path(app_id)
    if named and not path.exists():
        return Finding("key", BAD, f"BLAZING_KEY_FILE names {path}, which is missing", "Copy the app's key file there.")
    if not path.exists():
        advice = "It is made at the first enqueue; copy it to machines that run workers."
        return Finding("key", DOUBT, "none yet", advice)
    mode = stat.S_IMODE(path.stat().st_mode)
    state = BAD if mode & 0o077 else GOOD
    return Finding("key", state, f"{path}, mode {mode:04o}", f"chmod 600 {path}" if state == BAD else "")


def _places(app: Blazing) -> Iterator[Finding]:
    """Worker processes of this machine that do not come up, or keep ending."""
    for row in app.workers.posts():
        if row.failures:
            state = BAD if row.state in {"starting", "waiting"} else DOUBT
            advice = "See app.workers.to_frame() and events(). The supervisor goes on trying, ever more slowly."
            yield Finding(f"worker {row.place}", state, f"{row.failures} failures in a row; {row.reason}", advice)


def _trust(app: Blazing) -> Iterator[Finding]:
    """Whether the key here is the one that the app's steps were signed with."""
    options = {step: msgspec.msgpack.decode(data) for step, data in app.store.steps().items()}
    records = {step: app.store.code(option.get("code", b"")) for step, option in islice(options.items(), STEPS)}
    sealed = {step: record for step, record in records.items() if record}
    key = _key(app.app_id)
    if not sealed or key.state == BAD:
        return
    if key.state == DOUBT:
        advice = "Copy the key file of whoever enqueues; one that is made here will not fit."
        yield Finding("signatures", BAD, f"the app has {len(options)} steps, and no key is here", advice)
        return
    foreign = []
    for step, record in sealed.items():
        try:
            unseal_code(record, options[step]["code"], app.app_id, step, app.ring)
        except TrustError:
            foreign.append(step)
    if foreign:
        advice = "The keys of two machines differ: copy one file to all, and define these steps again."
        yield Finding("signatures", BAD, f"not of this key: {', '.join(foreign)}", advice)
    else:
        yield Finding("signatures", GOOD, f"{len(sealed)} steps are of this key")


def _server(app: Blazing) -> Iterator[Finding]:
    info = app.store.check(allow_eviction=True)
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
    yield _clients(info)
    used, limit = app.store.memory()
    full = bool(limit) and used > MEMORY_SHARE * limit
    advice = "Nothing is enqueued now: shorten retentions, drain, or raise maxmemory." if full else ""
    yield Finding(
        "memory",
        BAD if full else GOOD,
        f"{used / 1e6:,.1f} MB used{f' of {limit / 1e6:,.0f} MB' if limit else ', no limit set'}",
        advice,
    )
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
    broken = [name for name in ("aof_last_write_status", "aof_last_bgrewrite_status") if info.get(name, "ok") != "ok"]
    if broken:
        seen = f"the append-only file cannot be written ({', '.join(broken)})"
        return Finding("persistence", BAD, seen, "Look at the server's disk and its log.")
    return Finding("persistence", GOOD, "append-only file")


def _clients(info: dict[str, str]) -> Finding:
    have, most = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    full = bool(most) and have > CLIENTS_SHARE * most
    advice = "A worker takes about five connections: raise maxclients and the server's limit of open files."
    return Finding("clients", DOUBT if full else GOOD, f"{have} of {most} connections", advice if full else "")


def _work(app: Blazing) -> Iterator[Finding]:
    snapshot = app.snapshot()
    found = restored(app.store)
    if found is not None:
        yield Finding(
            "restored", BAD, str(found), "blazing-nb restored adopt | discard: docs/explanation/durability.md."
        )
    yield from _workers(snapshot)
    yield from _names(snapshot)
    yield from _posts(app.app_id)
    yield from _skew(snapshot)
    waiting = Counter[str]()
    for segment in snapshot.segments:
        waiting[segment.step] += segment.waiting
    for step in query.paused(app.store):
        advice = f"Go on: blazing-nb resume {step}"
        yield Finding("paused", DOUBT, f"{step}, {waiting[step]} operations wait", advice)
    oldest_ms = max((s.head_age_ms or 0 for s in snapshot.segments if s.waiting), default=0)
    if snapshot.workers and oldest_ms > BACKLOG_S * 1000:
        seen = f"{snapshot.waiting} operations wait, the oldest for {oldest_ms / 1000:.0f} s"
        yield Finding("backlog", DOUBT, seen, "More workers, or look which step takes long: blazing-nb top.")


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


def _names(snapshot: Snapshot) -> Iterator[Finding]:
    names = Counter(worker.worker_id for worker in snapshot.workers)
    for name in [name for name, count in names.items() if count > 1]:
        advice = "It does no harm, each has its own incarnation; name them apart to tell them apart."
        yield Finding("names", DOUBT, f"{names[name]} workers are named {name}", advice)


def _posts(app_id: str) -> Iterator[Finding]:
    """Places of this machine's supervisor whose processes end by themselves."""
    for post in Supervising(app_id).posts():
        if post.state == "waiting" and post.reason:
            advice = "app.workers.to_frame() has its last log lines; it is started again, later each time."
            yield Finding("supervisor", BAD, f"worker {post.place} of this machine ended: {post.reason}", advice)


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
