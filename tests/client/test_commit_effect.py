"""Effects with the commit, through the public API on real workers; the recipe for SQL in the user's own transaction."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, Worker, current, errors
from blazing_nb.client.proxy import Proxy
from tests.condition import until
from tests.conftest import WorkerFactory


def tally(page: int) -> int:
    effect = current().effect
    effect.incr("pages")
    effect.incr("sum", page)
    effect.set("last", {"page": page})
    effect.append("visited", page)
    effect.publish("news", (page, "read"))
    if page == 13:
        raise ValueError("unlucky")
    return page


def flaky(x: int) -> int:
    current().effect.incr("tries")
    if current().attempt < 3:
        raise OSError("not yet")
    return x


def nap_and_count(seconds: float) -> None:
    time.sleep(seconds)
    current().effect.incr("naps")


def try_effect(verb: str, *args: Any) -> None:
    getattr(current().effect, verb)(*((n for n in ()) if arg == "a generator" else arg for arg in args))


def test_effects_happen_with_the_commit_of_what_succeeds(app: Blazing, worker: Worker) -> None:
    step = app.step(tally)
    batch = step.map([1, 2, 13, 3])
    batch.wait(timeout=20)
    shared = app.shared()
    assert int(shared.counter("pages")) == 3
    assert shared.counter("sum").value == 6
    assert sorted(shared.log("visited")) == [1, 2, 3]
    assert shared.register("last").value["page"] in (1, 2, 3)
    messages = list(app.channel("news").subscribe("first", idle=0))
    assert sorted(message.value for message in messages) == [(1, "read"), (2, "read"), (3, "read")]
    assert {message.origin.partition("#")[0] for message in messages} == {batch[i].id for i in (0, 1, 3)}


def test_a_failed_attempt_has_no_effect_and_its_success_has_it_once(app: Blazing, worker: Worker) -> None:
    app.step(flaky, retries=3, backoff=0.0).map(range(5)).results(20)
    assert app.shared().counter("tries").value == 5


def test_effects_of_a_process_step_too(app: Blazing, worker: Worker) -> None:
    assert app.step(tally, lane="process").enqueue(4).result(60) == 4
    assert app.shared().counter("pages").value == 1


def test_a_commit_whose_reply_is_lost_counts_once(single_url: str, app_id: str, short_dir: Path) -> None:
    app = Blazing(app_id, url=single_url)
    proxy = Proxy(single_url, short_dir / f"{app.app_id}.sock")
    made = Worker(app.app_id, url=proxy.url, threads=2).start()
    batch = app.step(nap_and_count).map([0.02] * 100)
    proxy.drop_replies(0.4)
    batch.results(30)
    made.close()
    proxy.close()
    assert proxy.dropped
    assert app.shared().counter("naps").value == 100
    app.close()


@pytest.mark.slow
def test_a_killed_worker_repeats_executions_and_no_effect(app: Blazing, worker_process: WorkerFactory) -> None:
    """I10: some run twice, since their worker died before its commit; each counts once."""
    first, _ = (worker_process("--threads", "4", lease=1.0) for _ in range(2))
    batch = app.step(nap_and_count).map([0.01] * 600)
    until(lambda: app.shared().counter("naps").value > 50, 20)
    first.kill()
    batch.results(30)
    stats = app.snapshot().steps[0]
    assert (stats.succeeded, app.shared().counter("naps").value) == (600, 600)
    assert stats.rescued > 0


@pytest.mark.parametrize(
    ("verb", "args", "error"),
    [
        ("incr", ("x", 1.5), errors.UsageError),
        ("incr", ("x", 10**13), errors.UsageError),
        ("incr", ("a:b",), errors.InvalidName),
        ("set", ("x", "a generator"), errors.ValueNotSerializable),
        ("publish", ("../x\n", 1), errors.InvalidName),
        ("append", ("x", "y" * (300 << 10)), errors.PayloadTooLarge),
    ],
)
def test_what_cannot_be_done_fails_in_the_step(
    app: Blazing, worker: Worker, verb: str, args: tuple[Any, ...], error: type
) -> None:
    assert isinstance(app.step(try_effect).enqueue(verb, *args).exception(20), error)


# docs/howto/effects.md: the recipe for a database of one's own.


def credit(path: str, account: str, amount: int) -> int:
    """Add to an account once, however often this is executed."""
    operation, token = current().operation, current().token
    with sqlite3.connect(path, timeout=10, isolation_level=None) as db:
        db.execute("BEGIN IMMEDIATE")
        row = db.execute("SELECT token FROM done WHERE operation = ?", (operation,)).fetchone()
        if row is None:
            db.execute("INSERT INTO done VALUES (?, ?)", (operation, token))
            db.execute("UPDATE account SET balance = balance + ? WHERE name = ?", (amount, account))
        [balance] = db.execute("SELECT balance FROM account WHERE name = ?", (account,)).fetchone()
        db.execute("COMMIT")
    db.close()
    if current().attempt < 3:
        raise OSError("died after its transaction, before its commit")
    return int(balance)


def test_the_recipe_for_sql_credits_once_however_often_it_runs(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    path = str(tmp_path / "bank.db")
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE account (name TEXT PRIMARY KEY, balance INTEGER)")
        db.execute("CREATE TABLE done (operation TEXT PRIMARY KEY, token TEXT)")
        db.execute("INSERT INTO account VALUES ('ann', 0)")
    db.close()
    step = app.step(credit, retries=5, backoff=0.0)
    step.starmap([(path, "ann", 10)] * 8).results(30)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT balance FROM account").fetchone() == (80,)
    db.close()


def write_newest(path: str, key: str, value: str) -> None:
    """Write unless a later claim of this operation has written: a zombie's write is refused."""
    with sqlite3.connect(path, timeout=10) as db:
        db.execute(
            "INSERT INTO state VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value, "
            "token = excluded.token WHERE excluded.token >= state.token",
            (key, value, current().token),
        )
    db.close()


def test_the_token_fences_a_zombies_write(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT, token TEXT)")
        db.execute("INSERT INTO state VALUES ('k', 'of a later claim', '99999999-1')")
    db.close()
    app.step(write_newest).starmap([(path, "k", "late"), (path, "other", "first")]).results(20)
    with sqlite3.connect(path) as db:
        assert dict(db.execute("SELECT key, value FROM state")) == {"k": "of a later claim", "other": "first"}
    db.close()
