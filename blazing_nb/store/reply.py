"""Replies of the scripts as records. Pure: bytes in, records out."""

from __future__ import annotations

from typing import Any

import msgspec

from blazing_nb.core.bulletin import decode_bulletin
from blazing_nb.core.snapshot import Need, Segment, Snapshot, Step, Worker

_unpack = msgspec.msgpack.Decoder().decode


def parse_info(text: bytes) -> dict[str, str]:
    """Of INFO, whatever its sections."""
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)


class Claim(msgspec.Struct, frozen=True):
    """Operations of one segment that a worker now owns. `entries`: [[id, [b"p", envelope, b"t", enqueued ms]], ...].

    `claims` is the claim number of each; `spent` how many of its earlier claims were deaths, releases or waits.
    """

    segment: str
    claims: int
    spent: int
    entries: list[Any]


class Turn(msgspec.Struct, frozen=True):
    """What a turn answered. `due_ms` is the next moment of interest, 0 for none; `alone`: hold nothing beside what was
    claimed, or, where nothing was, claim no more until nothing is held."""

    now_ms: int
    version: int
    accepted: int
    lost: list[str]
    lease_lost: bool
    due_ms: int
    claims: list[Claim]
    cancels: list[str]
    alone: bool = False


class Reasserted(msgspec.Struct, frozen=True):
    """How many outcomes were missing and are there again; how many wait for their operation to be enqueued again; and
    which operations another has, or ended otherwise."""

    accepted: int
    remembered: int
    lost: list[str]


class StatusRow(msgspec.Struct, frozen=True):
    """Status of one operation: a live status's name, FINAL with its record, or ABSENT."""

    status: str
    record: bytes
    claims: int
    deaths: int
    releases: int
    due_ms: int | None
    worker: str
    since_ms: int | None = None
    waits: int = 0

    @property
    def attempts(self) -> int:
        """Executions begun; deaths, releases and waits do not count, and a workflow that waits goes on with one."""
        begun = self.claims - self.deaths - self.releases - self.waits
        return max(0, begun + (self.waits > 0 and self.status == "SCHEDULED"))


def parse_claims(rows: list[Any]) -> list[Claim]:
    return [Claim(name.decode(), claims, spent, entries) for name, claims, spent, entries in rows]


def parse_turn(reply: list[Any]) -> Turn:
    now_ms, version, accepted, lost, lease_lost, due_ms, claims, cancels, alone = reply
    return Turn(
        now_ms=now_ms,
        version=version,
        accepted=accepted,
        lost=[item.decode() for item in lost],
        lease_lost=bool(lease_lost),
        due_ms=due_ms,
        claims=parse_claims(claims),
        cancels=[item.decode() for item in cancels],
        alone=bool(alone),
    )


def parse_reasserted(reply: list[Any]) -> Reasserted:
    accepted, remembered, lost = reply
    return Reasserted(accepted, remembered, [item.decode() for item in lost])


def parse_status(reply: list[Any]) -> list[StatusRow]:
    return [
        StatusRow(
            status=status.decode(),
            record=record,
            claims=claims,
            deaths=deaths,
            releases=releases,
            due_ms=int(float(due)) if due else None,
            worker=worker.decode(),
            since_ms=int(since) if since else None,
            waits=waits,
        )
        for status, record, claims, deaths, releases, due, worker, since, waits in reply
    ]


def parse_snapshot(app: str, reply: bytes) -> Snapshot:
    now_ms, segments, steps, workers, needs = _unpack(reply)
    return Snapshot(
        app=app,
        at_ms=int(now_ms),
        segments=[_segment(row, int(now_ms)) for row in segments],
        steps=[_step(name, dict(zip(flat[::2], flat[1::2], strict=True))) for name, flat in steps if name[0] != "@"],
        workers=[parse_worker(row, int(now_ms)) for row in workers],
        needs=[Need(python, step, int(n), int(since)) for python, step, n, since in needs],
    )


def _segment(row: list[Any], now_ms: int) -> Segment:
    name, entries, pending, parked, head_ms = row
    step, prio, node = name.split(":", 2)
    return Segment(
        step=step,
        prio=prio,
        node=node,
        waiting=int(entries - pending),
        parked=int(parked),
        claimed=int(pending - parked),
        head_age_ms=max(0, now_ms - int(head_ms)) if head_ms else None,
    )


def _step(name: str, stats: dict[str, str]) -> Step:
    def count(field: str) -> int:
        return int(stats.get(field, 0))

    def histogram(letter: str) -> dict[int, int]:
        return {int(f[1:]): int(n) for f, n in stats.items() if f[0] == letter and f[1:].isdigit()}

    counters = [field for field in Step.__struct_fields__ if field not in {"step", "wait", "run", "total"}]
    return Step(
        step=name,
        **{field: count(field) for field in counters},
        wait=histogram("w"),
        run=histogram("r"),
        total=histogram("t"),
    )


def parse_worker(row: list[Any], now_ms: int) -> Worker:
    """[consumer, end of its lease in ms, [field, value, ...]] as a record."""
    consumer, end_ms, flat = row
    info = dict(zip(flat[::2], flat[1::2], strict=True))
    return Worker(
        worker_id=consumer.rpartition(".")[0],
        consumer=consumer,
        host=info.get("host", ""),
        pid=int(info.get("pid", 0)),
        lease_ms_left=int(end_ms) - now_ms,
        running=int(info.get("busy", 0)),
        slots=int(info.get("slots", 0)),
        done=int(info.get("done", 0)),
        python=info.get("python", ""),
        processes=int(info.get("processes", 0)),
        version=info.get("version", ""),
        refuses=_refuses(info.get("refuses", "")),
        state=info.get("state", "ready"),
        steps_version=int(info.get("steps", 0)),
        bulletin=decode_bulletin(info.get("bulletin", "")),
    )


def _refuses(text: str) -> dict[str, str]:
    """As a worker reported it; one of a later version may say it in another way."""
    try:
        return msgspec.json.decode(text, type=dict[str, str]) if text else {}
    except msgspec.DecodeError:
        return {"?": text[:200]}
