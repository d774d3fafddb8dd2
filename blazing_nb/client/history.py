"""What befell an operation, from its entry, its story and its record."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from blazing_nb.core.codec import describe_failure
from blazing_nb.core.dot import OperationId
from blazing_nb.core.outcome import Outcome, decode_outcome
from blazing_nb.core.status import Status
from blazing_nb.core.text import one_line
from blazing_nb.errors import OperationUnknown
from blazing_nb.store import query
from blazing_nb.store.reply import StatusRow
from blazing_nb.store.store import Store

if TYPE_CHECKING:
    import pandas as pd


class Transition(NamedTuple):
    """One event, and the status after it. `attempt`: executions begun by then."""

    event: str
    status: Status
    at_ms: float
    worker: str
    claim: int
    attempt: int
    error: str


class FailedAttempt(NamedTuple):
    """One that failed and was repeated; `at` in UTC.

    Examples:
        >>> operation = positive.options(retries=1).enqueue(-1)
        >>> operation.wait(timeout=10), operation.failures()[0].error
        (True, 'ValueError: -1 is below zero')
    """

    claim: int
    at: datetime
    error: str

    def __repr__(self) -> str:
        return f"<claim {self.claim} failed at {self.at:%Y-%m-%d %H:%M:%S} UTC: {one_line(self.error)}>"


def failed_attempts(rows: list[Transition]) -> list[FailedAttempt]:
    """Those of them that were repeated."""
    return [
        FailedAttempt(row.claim, datetime.fromtimestamp(row.at_ms / 1000, UTC), row.error)
        for row in rows
        if row.event == "retried"
    ]


def transitions(store: Store, op: OperationId) -> list[Transition]:
    """In order. Raises `OperationUnknown`."""
    moment = query.entry_moment(store, op)
    [row] = store.status([op])
    if row.status == "ABSENT":
        raise OperationUnknown(f"{op.text} is not in the store: never stored, or its retention has passed.")
    story, names = store.story(op), query.worker_names(store)
    outcome = decode_outcome(row.record) if row.record else None
    enqueued = outcome.enqueued_ms if outcome else moment or 0
    rows = [Transition("enqueued", Status.PENDING, enqueued, "", 0, 0, "")]
    rows += ended_claims(story, names)
    rows += _final(outcome, names) if outcome else _now(row)
    return rows


def ended_claims(story: dict[str, str], names: dict[str, str]) -> list[Transition]:
    """Claims that did not end it, by number: failed attempts, deaths, releases."""
    ended = {}
    for field, text in story.items():
        kind, _, number = field.partition(":")
        if kind in {"error", "death", "release", "wait"} and number.isdigit():
            ended[int(number)] = (kind, text)
    rows, spent = [], 0
    for claim, (kind, text) in sorted(ended.items()):
        attempt = claim - spent
        if kind == "error":
            at, incarnation, claimed, _, error = text.split(";", 4)
            worker, event = names.get(incarnation, incarnation), "retried"
        else:
            at, consumer, claimed, *reason = text.split(";", 3)
            worker = names.get(consumer, consumer.rpartition(".")[0])
            spent, error = spent + 1, "its worker died" if kind == "death" else "".join(reason)
            event = {"death": "rescued", "release": "released", "wait": "waited"}[kind]
        rows.append(Transition("claimed", Status.CLAIMED, float(claimed), worker, claim, attempt, ""))
        after = Status.SCHEDULED if kind == "wait" else Status.RETRYING
        rows.append(Transition(event, after, float(at), worker, claim, attempt, error))
    return rows


def given_back(story: dict[str, str]) -> str:
    """Why a worker gave it back last; empty where none did, or did not say why."""
    releases = {int(field[8:]): text for field, text in story.items() if field.startswith("release:")}
    return "".join(releases[max(releases)].split(";", 3)[3:]) if releases else ""


def _final(outcome: Outcome, names: dict[str, str]) -> list[Transition]:
    worker = names.get(str(outcome.worker), "")
    status, claim, attempt = outcome.status, outcome.claim, outcome.attempt
    started = outcome.claimed_ms + outcome.queued_us / 1000
    event = str(status).lower()
    if status in (Status.LOST, Status.EXPIRED) or not outcome.run_us + outcome.queued_us:
        # Ended by a script: what its record calls claimed is when that was.
        return [Transition(event, status, outcome.claimed_ms, worker, claim, attempt, _error(outcome))]
    return [
        Transition("claimed", Status.CLAIMED, outcome.claimed_ms, worker, claim, attempt, ""),
        Transition("started", Status.RUNNING, started, worker, claim, attempt, ""),
        Transition(event, status, started + outcome.run_us / 1000, worker, claim, attempt, _error(outcome)),
    ]


def _now(row: StatusRow) -> list[Transition]:
    if row.status not in ("CLAIMED", "RUNNING") or row.since_ms is None:
        return []
    worker, attempt = row.worker.rpartition(".")[0], row.attempts
    return [Transition("claimed", Status(row.status), row.since_ms, worker, row.claims, attempt, "")]


def _error(outcome: Outcome) -> str:
    """`type: message` of a failure; readable without trusting it."""
    return "" if outcome.status is Status.SUCCEEDED else describe_failure(outcome.payload)


def history_frame(rows: list[Transition]) -> pd.DataFrame:
    import pandas as pd

    columns = ["event", "status", "at", "worker", "claim", "attempt", "error"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["status"] = frame["status"].map(str)
    frame["at"] = pd.to_datetime(frame["at"], unit="ms", utc=True)
    return frame
