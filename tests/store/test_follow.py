"""What follows a commit, on a real server: once, with the commit or not at all (I11). Time is an argument."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blazing_nb.core.dot import OperationId
from blazing_nb.core.outcome import decode_outcome
from blazing_nb.store.reply import Claim, Turn
from blazing_nb.store.request import Follow, Group
from blazing_nb.store.store import Store
from tests.store.test_script import BODY, LEASE, T0, Bench, ids

OPEN = BODY[:1] + b"\x97" + BODY[2:]


class Line(Bench):
    """A bench whose commits have a next stage."""

    def commit(
        self, worker: str, rows: list[tuple[str, int]], *, letter: bytes = b"S", follows: int = 99, **row: object
    ) -> Turn:
        """The first `follows` rows have a next stage `g`."""
        segment = "f:n:n1"
        rows = sorted(rows)
        options = {"prio": "n", "left": 2, "root": "", "delay_ms": 0, "deadline_ms": 0, **row}
        made = [Follow(i, i, "g", **options) for i, _ in enumerate(rows[:follows], 1)]  # type: ignore[arg-type]
        n = len(rows)
        group = Group(segment, 100, 60_000, [i for i, _ in rows], [c for _, c in rows], [7] * n, [T0] * n, made)
        bodies = [letter + (OPEN if i < follows else BODY)[1:] for i in range(n)]
        payloads = [b"next %d" % i for i in range(1, len(made) + 1)]
        return self.store.turn(worker, self.workers[worker], [group], bodies, [], payloads=payloads, now_ms=self.now)

    def claim_step(self, step: str, budget: int = 100) -> list[Claim]:
        return self.store.turn(self.a, self.workers[self.a], [], [], [(budget, [step])], now_ms=self.now).claims

    def written(self) -> list[tuple[str, dict[bytes, bytes]]]:
        """What the store wrote for `g`: id and fields."""
        call, prefix = self.store.connection().call, self.store.keys.prefix
        rows = [row for prio in "hnld" for row in call("XRANGE", f"{prefix}seg:g:{prio}:@0", "-", "+")]
        return [(entry.decode(), dict(zip(fields[::2], fields[1::2], strict=True))) for entry, fields in rows]

    def record(self, entry: str) -> bytes:
        return self.store.status([OperationId.parse(f"f:n:n1:{entry}")])[0].record

    def news(self) -> list[tuple[int, bytes]]:
        """What the node's stream says."""
        rows = self.store.follow(self.store.connection(), {("n1", self.node): "0-0"}, 1)
        return [pair for *_, fields in rows for pair in zip(fields[::2], fields[1::2], strict=True)]


@pytest.fixture
def line(url: str, app_id: str) -> Iterator[Line]:
    store = Store(app_id, url)
    yield Line(store)
    store.close()


def test_the_commit_of_a_stage_enqueues_the_next_and_says_where(line: Line) -> None:
    line.enqueue(3)
    rows = ids(line.claim(line.a))
    assert line.commit(line.a, rows, follows=2).accepted == 3
    written = line.written()
    assert [fields[b"p"] for _, fields in written] == [b"next 1", b"next 2"]
    assert [fields[b"o"].decode() for _, fields in written] == [f"f:n:n1:{entry}" for entry, _ in rows[:2]]
    assert [fields[b"r"] for _, fields in written] == [fields[b"o"] for _, fields in written]
    places = [decode_outcome(line.record(entry)).place for entry, _ in rows]
    assert places == [f"2|g:n:@0:{written[0][0]}", f"2|g:n:@0:{written[1][0]}", ""]
    assert [claim.claims for claim in line.claim_step("g")] == [1]
    assert int(line.store.connection().call("HGET", f"{line.store.keys.prefix}stats:g", "enqueued")) == 2


def test_a_repeated_commit_enqueues_nothing_more(line: Line) -> None:
    line.enqueue(2)
    rows = ids(line.claim(line.a))
    first = line.commit(line.a, rows)
    again = line.commit(line.a, rows)
    assert (first.accepted, again.accepted, again.lost) == (2, 0, [])
    assert len(line.written()) == 2


def test_a_fenced_commit_enqueues_nothing(line: Line) -> None:
    line.enqueue(4)
    old = ids(line.claim(line.a))
    line.pass_ms(2 * LEASE, line.b)
    new = ids(line.claim(line.b, 2))
    assert line.commit(line.a, old).accepted == 0
    assert line.written() == []
    assert line.commit(line.b, new).accepted == 2
    assert len(line.written()) == 2


def test_of_a_batch_only_what_is_accepted_goes_on(line: Line) -> None:
    """Beside its own, a worker commits what another one holds."""
    line.enqueue(4)
    mine, others = ids(line.claim(line.a, 2)), ids(line.claim(line.b, 2))
    turn = line.commit(line.a, mine + others)
    assert turn.accepted == 2
    assert len(turn.lost) == 2
    assert [fields[b"o"].decode() for _, fields in line.written()] == [f"f:n:n1:{entry}" for entry, _ in mine]


def test_a_failure_is_followed_by_nothing(line: Line) -> None:
    line.enqueue(1)
    assert line.commit(line.a, ids(line.claim(line.a)), letter=b"F").accepted == 1
    assert line.written() == []


def test_a_cancel_that_came_first_ends_the_flow_there(line: Line) -> None:
    line.enqueue(1)
    rows = ids(line.claim(line.a))
    op = OperationId.parse(f"f:n:n1:{rows[0][0]}")
    assert line.store.cancel([op], now_ms=line.now) == ["ASKED"]
    assert line.commit(line.a, rows).accepted == 1
    assert line.written() == []
    assert line.record(rows[0][0])[:1] == b"C"
    assert line.commit(line.a, rows).lost == []


def test_a_delay_parks_and_a_deadline_counts_from_the_commit(line: Line) -> None:
    line.enqueue(1)
    line.commit(line.a, ids(line.claim(line.a)), delay_ms=500, deadline_ms=900)
    [(entry, fields)] = line.written()
    assert fields[b"x"].decode() == str(line.now + 900)
    assert line.claim_step("g") == []
    line.pass_ms(500, line.a)
    assert ids(line.claim_step("g")) == [(entry, 1)]


def test_the_first_ones_node_hears_where_an_item_is_and_how_it_ended(line: Line) -> None:
    line.enqueue(2)
    rows = ids(line.claim(line.a))
    root = f"f:n:n1:{rows[0][0]}"
    line.commit(line.a, rows[:1])
    [claim] = line.claim_step("g")
    [(entry, claims)] = ids([claim])
    group = Group("g:n:@0", 10, 60_000, [entry], [claims], [7], [T0])
    for follows, payloads in (([Follow(1, 1, "h", "n", 1, root, 0, 0)], [b"p"]), ([], [])):
        group.follows = follows
        body = OPEN if follows else BODY
        line.store.turn(line.a, line.workers[line.a], [group], [body], [], payloads=payloads, now_ms=line.now)
        claims_h = line.claim_step("h")
        if claims_h:
            [(entry, claims)] = ids(claims_h)
            group = Group("h:n:@0", 10, 60_000, [entry], [claims], [7], [T0])
    news = line.news()
    counter = int(rows[0][0].partition("-")[2])
    assert [number for number, _ in news] == [counter] * 3
    assert decode_outcome(news[0][1]).place.startswith("2|g:n:@0:")
    assert news[1][1] == f">1|h:n:@0:{entry}".encode()
    assert news[2][1].startswith(f">0|h:n:@0:{entry}|S".encode())


def test_the_first_ones_node_hears_of_a_stage_that_is_cancelled_or_lost(line: Line) -> None:
    line.enqueue(2)
    line.commit(line.a, ids(line.claim(line.a)))
    one, two = [entry for entry, _ in line.written()]
    assert line.store.cancel([OperationId.parse(f"g:n:@0:{one}")], now_ms=line.now) == ["CANCELLED"]
    for _ in range(3):
        victim = line.open("victim")
        line.pass_ms(3000, line.a, line.b, victim)
        line.store.turn(victim, line.workers[victim], [], [], [(9, ["g"])], now_ms=line.now)
        line.pass_ms(4 * LEASE, line.a, line.b)
    ended = [record for _, record in line.news() if record[:1] == b">"]
    assert [record[: record.index(b"|", 4) + 2] for record in ended] == [
        f">0|g:n:@0:{one}|C".encode(),
        f">0|g:n:@0:{two}|L".encode(),
    ]
