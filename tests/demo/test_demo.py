"""The demo as a user runs it, on real sources; interrupted and resumed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from blazing_nb.demo.source import aggregate, measure, source_files

pytestmark = pytest.mark.slow


def demo(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "blazing_nb", "demo", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    figures: dict[str, Any] = json.loads(out)
    return figures


def processes_of(home: Path) -> list[str]:
    """Processes that were started with this state directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(home).encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                found.append((path.parent / "cmdline").read_text())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or is not ours
    return found


def assert_nothing_runs(home: Path) -> None:
    end = time.monotonic() + 10
    while (left := processes_of(home)) and time.monotonic() < end:
        time.sleep(0.1)
    assert left == []


def test_the_demo_counts_what_a_direct_computation_counts(fresh_home: Path, tmp_path: Path) -> None:
    figures = finish(demo("--files", "150", "--json", "--out", str(tmp_path / "demo.html")))
    expected = aggregate([measure(name) for name in source_files(150)])
    assert figures["findings"] == expected
    assert (figures["operations"], figures["failed"], figures["lost"], figures["nodes"]) == (150, 0, 0, 3)
    assert all(value is not None for row in figures["latency_ms"].values() for value in row.values())
    page = (tmp_path / "demo.html").read_text()
    assert page.count("<svg") == 3
    assert re.findall(r"(?:https?:)?//|<script|@import|url\(", page) == []
    assert_nothing_runs(fresh_home)


def test_an_interrupted_demo_leaves_nothing_running_and_is_finished_by_resume(fresh_home: Path, tmp_path: Path) -> None:
    page = str(tmp_path / "demo.html")
    process = demo("--files", "1200", "--name", "cut", "--json", "--out", page)
    from blazing_nb import Blazing
    from blazing_nb.store import embedded

    end = time.monotonic() + 30
    while time.monotonic() < end:
        server = embedded.find()
        if server is not None:
            with Blazing("demo", url=server.url) as app:
                if app.snapshot().finished > 20:
                    break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "--resume cut" in err
    assert_nothing_runs(fresh_home)
    figures = finish(demo("--files", "1200", "--resume", "cut", "--json", "--out", page))
    assert figures["findings"] == aggregate([measure(name) for name in source_files(1200)])
    assert_nothing_runs(fresh_home)


def test_a_senseless_request_is_one_line_and_exit_code_2(fresh_home: Path) -> None:
    process = demo("--files", "0")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert err.startswith("blazing-nb: ")
    assert err.count("\n") == 1
