"""`doctor` and `top` on real servers and workers, healthy and not."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from blazing_nb import Blazing, Worker
from blazing_nb.client.doctor import Diagnosis, Finding, _clients, _persistence, _policy, _skew, _workers
from blazing_nb.client.supervising import Supervising
from blazing_nb.core.snapshot import Snapshot
from blazing_nb.core.snapshot import Worker as SnapshotWorker
from blazing_nb.core.supervision import Post
from blazing_nb.top import Top, shares
from tests.client.test_feature import failing
from tests.client.test_option import same
from tests.condition import until


def states(found: Diagnosis) -> dict[str, str]:
    return {finding.subject: finding.state for finding in found.findings}


def test_a_healthy_app_is_said_to_be(app: Blazing, worker: Worker) -> None:
    app.step(same).map(range(5)).results(10)
    found = app.doctor()
    assert found.healthy
    expected = {"state": "good", "key": "good", "server": "good", "eviction": "good", "memory": "good"}
    assert expected.items() <= states(found).items()
    assert (states(found)["workers"], states(found)["failures"]) == ("good", "good")
    assert states(found)["persistence"] == "doubt"  # the tests' server keeps no file
    assert "appendonly yes" in str(found)
    assert list(found.to_frame().columns) == ["subject", "state", "seen", "advice"]


def test_what_is_wrong_comes_with_what_to_do(app: Blazing, url: str) -> None:
    app.step(same).map(range(5))
    found = app.doctor()
    assert not found.healthy
    assert states(found)["workers"] == "bad"
    assert "5 operations wait" in str(found)
    worker = Worker(app.app_id, url=url).start()
    app.step(failing).map(["<b>x</b>", "y"]).wait(10)
    assert states(app.doctor())["failures"] == "doubt"
    assert "<b>" not in app.doctor()._repr_html_()
    worker.close()


def test_a_key_that_others_can_read_is_found(app: Blazing, blazing_home: Path) -> None:
    from blazing_nb.store.secret import key_path

    app.step(same).code()
    path = key_path(app.app_id)
    path.chmod(0o644)
    found = app.doctor()
    assert states(found)["key"] == "bad"
    assert f"chmod 600 {path}" in str(found)


def test_a_key_file_that_is_named_and_missing_is_found(
    app: Blazing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BLAZING_KEY_FILE", str(tmp_path / "none.json"))
    assert states(app.doctor())["key"] == "bad"


def test_a_server_that_does_not_answer_is_found(short_dir: Path) -> None:
    from blazing_nb.store.connection import Connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "call", _refuse)
        found = Blazing("away", url=f"unix://{short_dir}/none.sock").doctor()
    assert (found.healthy, states(found)["server"]) == (False, "bad")


def _refuse(*args: Any, **options: Any) -> None:
    from blazing_nb.errors import StoreUnavailable

    raise StoreUnavailable("nobody there")


def run(*arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "blazing_nb", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "BLAZING_REDIS_URL": url, "COLUMNS": "80"},
    )


def test_the_verbs_of_the_command_line(app: Blazing, url: str, worker: Worker) -> None:
    app.step(same).map(range(3)).results(10)
    app.step(failing).map(["one"]).wait(10)
    listed = run("ops", "--app", app.app_id, "--status", "FAILED", url=url)
    assert (listed.returncode, listed.stdout.count("ValueError: one")) == (0, 1)
    assert "1 operations would be" in run("retry", "--app", app.app_id, "--dry-run", url=url).stdout
    assert len(app.failed()) == 1
    assert "1 operations were" in run("retry", "--app", app.app_id, url=url).stdout
    assert run("doctor", "--app", app.app_id, url=url).returncode == 0
    top = run("top", "--app", app.app_id, "--seconds", "0.2", url=url)
    assert top.returncode == 0
    assert "same" in top.stdout
    assert max(map(len, top.stdout.splitlines())) <= 80
    assert run("ops", "--app", app.app_id, "--status", "NONE", url=url).returncode == 2


def drawn(top: Top, height: int = 40) -> list[str]:
    console = Console(width=80, height=height, file=io.StringIO(), force_terminal=False)
    console.print(top.frame(height))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_top_shows_depths_rates_workers_and_failures(app: Blazing, worker: Worker) -> None:
    step, top = app.step(same), Top(app)
    drawn(top)
    step.map(range(100)).results(10)
    app.step(failing).map(["[bold]oh[/]"]).wait(10)
    app.step(failing, name="a_later_one").map(["x" * 200]).wait(10)
    step.pause()
    step.map(range(7), node_id="quiet")
    lines = drawn(top)
    assert re.match(rf"{app.app_id}  7 waiting  0 parked  0 claimed  102 finished", lines[0])
    assert re.match(r"in \d+/s  done [1-9]\d*/s  █", lines[1])
    assert any(re.match(r"same +\d+ +\d+ +0 +0 +[\d.]+ +[\d.]+$", line) for line in lines)
    assert any(re.match(r"same:n:quiet +7 +0 +0 +[\d.]+ s$", line) for line in lines)
    assert any(line.startswith(worker.worker_id) and " ready " in line for line in lines)
    last, before = [line for line in lines if line.startswith("FAILED")]  # the newest first, whatever its step
    assert re.match(r"FAILED [\d.]+ s ago  a_later_one: ValueError: x+…$", last)
    assert "failing: ValueError: [bold]oh[/]" in before
    assert max(map(len, lines)) <= 80
    step.resume()


def test_top_fits_its_terminal_and_says_what_it_left_out(app: Blazing, worker: Worker) -> None:
    step = app.step(same)
    for i in range(20):
        step.options(delay=3600).map(range(2), node_id=f"node-with-a-rather-long-name-{i:020}")
    app.step(failing).map(range(9)).wait(10)
    lines = drawn(Top(app), 24)
    assert len(lines) == 24
    assert max(map(len, lines)) <= 80
    assert re.match(r"segment \(12 of 21\) ", next(line for line in lines if line.startswith("segment")))
    assert sum(line.startswith("FAILED") for line in lines) == 4
    assert len(drawn(Top(app), 12)) == 12


@pytest.mark.parametrize(
    ("wanted", "room", "given"),
    [([2, 9, 2], 30, [2, 9, 2]), ([2, 9, 2], 8, [2, 4, 2]), ([5, 5, 5], 1, [1, 1, 1]), ([0, 9, 0], 3, [0, 3, 0])],
)
def test_tables_share_the_room_fairly(wanted: list[int], room: int, given: list[int]) -> None:
    assert shares(wanted, room) == given


def test_top_says_that_the_store_is_away(app: Blazing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(app), "snapshot", _refuse)
    assert "nobody there" in drawn(Top(app))[0]


def found_of(app: Blazing, subject: str) -> Finding:
    [found] = [finding for finding in app.doctor().findings if finding.subject == subject]
    return found


def test_an_app_whose_key_is_not_here_or_is_another_is_found(
    app: Blazing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from blazing_nb.store.secret import key_path

    app.step(same).code()
    assert found_of(app, "signatures").state == "good"
    (tmp_path / "other").mkdir(mode=0o700)
    monkeypatch.setenv("BLAZING_HOME", str(tmp_path / "other"))
    elsewhere = Blazing(app.app_id, url=app.url)
    missing = found_of(elsewhere, "signatures")
    assert (missing.state, missing.seen) == ("bad", "the app has 1 steps, and no key is here")
    assert not key_path(app.app_id).exists()  # looking makes none
    assert elsewhere.ring  # one that is made here does not fit
    foreign = found_of(elsewhere, "signatures")
    assert (foreign.state, foreign.seen) == ("bad", "not of this key: same")
    elsewhere.close()


def test_a_home_that_others_can_enter_is_found(app: Blazing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("BLAZING_HOME", str(folder))
    folder.chmod(0o755)
    found = {finding.subject: finding for finding in app.doctor().findings}
    assert (found["state"].state, found["state"].advice) == ("bad", f"chmod 700 {folder}")


def test_paused_steps_and_a_backlog_are_found(app: Blazing, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    step = app.step(same)
    step.pause()
    step.map(range(3))
    paused = found_of(app, "paused")
    assert (paused.state, paused.seen) == ("doubt", "same, 3 operations wait")
    assert "blazing-nb resume same" in paused.advice
    assert "backlog" not in states(app.doctor())
    monkeypatch.setattr("blazing_nb.client.doctor.BACKLOG_S", 0)
    until(lambda: "backlog" in states(app.doctor()))
    step.resume()


def test_what_the_server_says_of_itself_is_judged() -> None:
    aof = {"aof_enabled": "1", "aof_last_write_status": "ok"}
    assert _persistence(aof).state == "good"
    assert _persistence({**aof, "aof_last_write_status": "err"}).state == "bad"
    assert _persistence({**aof, "aof_last_bgrewrite_status": "err"}).state == "bad"
    assert _policy({"maxmemory": "100", "maxmemory_policy": "allkeys-lru"}).state == "bad"
    assert _policy({"maxmemory": "0", "maxmemory_policy": "allkeys-lru"}).state == "good"
    assert _clients({"connected_clients": "81", "maxclients": "100"}).state == "doubt"
    assert _clients({"connected_clients": "80", "maxclients": "100"}).state == "good"


def test_other_versions_and_late_workers_are_found() -> None:
    here = ".".join(map(str, sys.version_info[:2]))
    old = SnapshotWorker("w1", "w1.1", "h", 1, -5, 0, 1, 0, python=here + ".0", version="0.0.1")
    snapshot = Snapshot("a", 0, [], [], [old])
    found = {finding.subject: finding.state for finding in (*_workers(snapshot), *_skew(snapshot))}
    assert found == {"workers": "good", "leases": "doubt", "versions": "doubt"}
    other = SnapshotWorker("w2", "w2.1", "h", 1, 5, 0, 1, 0, python="3.99.1")
    assert [finding.state for finding in _skew(Snapshot("a", 0, [], [], [other]))] == ["bad"]
    both = [*_skew(Snapshot("a", 0, [], [], [other, msgspec.structs.replace(other, python=here + ".0")]))]
    assert [finding.state for finding in both] == ["doubt"]  # some can


def test_a_slow_a_full_and_a_skewed_server_is_found(app: Blazing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blazing_nb.client.doctor.SLOW_PING_MS", 0.0)
    monkeypatch.setattr("blazing_nb.client.doctor.time.time", lambda: 0.0)
    monkeypatch.setattr(type(app.store), "memory", lambda self: (90, 100))
    found = states(app.doctor())
    assert (found["server"], found["clock"], found["memory"]) == ("doubt", "doubt", "bad")


def test_a_user_without_the_commands_is_found(single_url: str, app_id: str) -> None:
    app = Blazing(app_id, url=single_url).connect()
    admin = app.store.connection().call
    admin("ACL", "SETUSER", "weak", "on", "nopass", "~*", "+@connection", "+info")
    try:
        weak = Blazing(app.app_id, url=single_url.replace("unix://", "unix://weak:x@"))
        found = weak.doctor()
        assert (found.healthy, states(found)["permissions"]) == (False, "bad")
        weak.close()
    finally:
        admin("ACL", "DELUSER", "weak")
        app.close()


def test_a_worker_that_the_supervisor_cannot_keep_is_found(app: Blazing, monkeypatch: pytest.MonkeyPatch) -> None:
    posts = [Post(0, "waiting", reason="exit code 1"), Post(1, "ready", pid=1)]
    monkeypatch.setattr(Supervising, "posts", lambda self: posts)
    found = found_of(app, "supervisor")
    assert (found.state, found.seen) == ("bad", "worker 0 of this machine ended: exit code 1")
