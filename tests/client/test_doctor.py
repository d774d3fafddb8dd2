"""`doctor` and `top` on real servers and workers, healthy and not."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from blazing_nb import Blazing, Worker
from blazing_nb.client.doctor import Diagnosis
from blazing_nb.top import Top
from tests.client.test_feature import failing
from tests.client.test_option import same


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


def test_top_shows_depths_rates_workers_and_failures(app: Blazing, worker: Worker) -> None:
    step = app.step(same)
    top = Top(app)
    step.map(range(100)).results(10)
    app.step(failing).map(["[bold]oh[/]"]).wait(10)
    console = Console(width=80, file=io.StringIO(), force_terminal=False)
    console.print(top.frame())
    step.pause()
    step.map(range(7), node_id="quiet")
    console.print(top.frame())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "7 waiting" in text
    assert "same:n:quiet" in text
    assert worker.worker_id[:8] in text
    assert "ValueError: [bold]oh[/]" in text
    step.resume()
