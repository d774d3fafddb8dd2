"""Progress of what is awaited: it appears late, moves, ends as it was, and iterates; on a real server and workers."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from tqdm import tqdm

from blazing_nb import Blazing, OperationTimeout, Worker, as_completed, current, gather, wait
from blazing_nb.client import progress as client_progress
from blazing_nb.notebook import bar as drawn
from blazing_nb.notebook import progress
from blazing_nb.notebook.bar import NotebookCanvas, Progress, TerminalCanvas


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def hold(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.005)
    return path


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Pages:
    """Stands where a notebook's display is: what it shows now, and how often it was drawn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.outputs: list[list[dict[str, str]]] = []
        monkeypatch.setattr("IPython.display.display", self.display)
        monkeypatch.setattr(drawn, "in_kernel", lambda: True)
        monkeypatch.setattr(client_progress, "in_kernel", lambda: True)

    def display(self, data: dict[str, str], *, raw: bool, display_id: bool) -> Pages:
        assert raw and display_id
        assert threading.current_thread() is threading.main_thread()
        self.outputs.append([data])
        return self

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.outputs[-1].append(data)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_progress, "PATIENCE_S", 0.1)


@pytest.fixture
def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Called in the test's body, since pytest puts its own in place after the fixtures."""

    def use() -> Terminal:
        made = Terminal()
        monkeypatch.setattr(sys, "stderr", made)
        return made

    return use


def test_what_is_quick_shows_nothing_and_what_is_not_shows_a_bar(
    app: Blazing, worker: Worker, use_terminal: Callable[[], Terminal], hasty: None
) -> None:
    terminal = use_terminal()
    step = app.step(nap)
    assert step.map([0.0] * 5).results(10) == [0.0] * 5
    assert terminal.getvalue() == ""
    assert step.map([0.6] * 3, name="bar").results(10) == [0.6] * 3
    lines = terminal.getvalue().split("\r")
    assert len(lines) > 2
    assert "bar" in lines[-1]
    assert "3/3 · 100% · in" in lines[-1]
    assert lines[-1].endswith("\n")


def test_nobody_looks_at_a_pipe_or_in_another_thread(
    app: Blazing, worker: Worker, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = app.step(nap).map([0.4])
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    assert batch.results(10) == [0.4]
    assert log.getvalue() == ""
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    thread = threading.Thread(target=lambda: app.step(nap).map([0.4]).results(10))
    thread.start()
    thread.join(20)
    assert shown.getvalue() == ""


def test_who_asks_gets_few_lines_in_a_pipe(
    app: Blazing, worker: Worker, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    app.step(nap).map([0.6], name="piped").results(10, progress=True)
    assert [line.split()[0] for line in log.getvalue().splitlines()] == ["piped", "piped"]


def test_a_notebook_has_one_output_that_moves_and_stays(
    app: Blazing, worker: Worker, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = Pages(monkeypatch)
    app.step(lambda x: nap(0.05) / x, name="inverse").map([1, 0, *[1] * 60]).results(20, return_exceptions=True)
    [states] = pages.outputs
    assert len(states) > 1
    assert "61/62" not in states[0]["text/plain"]
    last = states[-1]
    assert "62/62" in last["text/plain"]
    assert "1 failed" in last["text/plain"]
    assert "62 of 62 done, 1 failed" in last["text/html"]
    assert "<script" not in last["text/html"]


def test_an_operation_shows_what_it_reports_of_itself(
    app: Blazing, worker: Worker, hasty: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pages = Pages(monkeypatch)
    monkeypatch.setattr(drawn, "ASK_S", 0.1)

    def train(path: str) -> str:
        current().progress(3, 12, "epoch 3")
        return hold(path)

    gate = tmp_path / "gate"
    operation = app.step(train).enqueue(str(gate))
    update = pages.update

    def opening(data: dict[str, str], *, raw: bool) -> None:
        update(data, raw=raw)
        if "3/12" in data["text/plain"]:
            assert "epoch 3" in data["text/plain"]
            gate.touch()

    monkeypatch.setattr(pages, "update", opening)
    assert operation.result(30) == str(gate)
    assert "train" in pages.outputs[0][-1]["text/plain"]
    assert "1/1" in pages.outputs[0][-1]["text/plain"]


def test_without_workers_it_says_so(app: Blazing, hasty: None, use_terminal: Callable[[], Terminal]) -> None:
    terminal = use_terminal()
    with pytest.raises(OperationTimeout):
        app.step(nap).map([0.0, 0.0]).results(0.8)
    assert "no workers: app.workers.start(2)" in terminal.getvalue()
    assert "0/2" in terminal.getvalue().splitlines()[-1]


def test_an_interrupted_wait_leaves_the_bar_as_it_was(
    app: Blazing, hasty: None, use_terminal: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = use_terminal()

    def interrupt(self: TerminalCanvas, tally: Any, end: str = "") -> None:
        draw(self, tally, end)
        if not end:
            raise KeyboardInterrupt

    draw = TerminalCanvas.draw
    monkeypatch.setattr(TerminalCanvas, "draw", interrupt)
    with pytest.raises(KeyboardInterrupt):
        app.step(nap).map([0.0]).results(20)
    assert terminal.getvalue().endswith("\n")


def test_iterating_with_a_bar_gives_what_finishes(
    app: Blazing, worker: Worker, use_terminal: Callable[[], Terminal]
) -> None:
    terminal = use_terminal()
    step = app.step(nap)
    batch = step.map([0.6, 0.0, 0.3])
    assert len(batch.progress()) == 3
    assert [operation.result() for operation in batch.progress()] == [0.0, 0.3, 0.6]
    assert terminal.getvalue() == ""
    handles = [step.enqueue(0.5), step.map([0.0]), step.enqueue(0.25)]
    assert list(Progress(handles, patience=0.0)) == [handles[1], handles[2], handles[0]]
    assert "3/3" in terminal.getvalue().splitlines()[-1]
    assert Progress(gather(*handles)).wait(5)
    assert "3/3" in repr(progress(handles))
    assert 'data-testid="bz-progress"' in progress(batch)._repr_html_()
    endless = step.enqueue(30.0)
    with pytest.raises(OperationTimeout):
        list(progress([endless], timeout=0.3))
    with pytest.raises(OperationTimeout):
        list(progress(step.map([30.0]), timeout=0.3))
    assert not Progress(endless).wait(0.05)


def test_tqdm_takes_batches_and_what_completes(app: Blazing, worker: Worker) -> None:
    out = io.StringIO()
    batch = app.step(nap).map([0.0] * 7)
    assert len([op.result() for op in tqdm(batch, file=out)]) == 7
    assert len([op for op in tqdm(app.as_completed(batch), total=len(batch), file=out)]) == 7
    assert out.getvalue().count("7/7") == 2


def test_a_batch_completes_by_its_operations_and_can_be_waited_for(app: Blazing, worker: Worker) -> None:
    batch = app.step(nap).map([0.0, 30.0])
    first = next(as_completed(batch, timeout=10))
    assert first == batch[0]
    assert wait(batch, timeout=0.05) == ({batch[0]}, {batch[1]})


def test_a_canvas_of_a_notebook_is_what_it_says() -> None:
    assert isinstance(drawn._canvas(), drawn.LogCanvas | TerminalCanvas)
    assert NotebookCanvas.close is NotebookCanvas.draw


@pytest.mark.slow
def test_a_real_kernel_shows_one_bar_that_moves_and_is_saved_as_it_ended(url: str, app_id: str) -> None:
    """The messages that a front end gets, and the output that a saved notebook has."""
    cell = nbformat.v4.new_code_cell(
        f"""
        import time
        from blazing_nb import Blazing, Worker
        app = Blazing({app_id!r}, url={url!r})
        worker = Worker(app.app_id, url={url!r}).start()
        batch = app.step(lambda x: time.sleep(x) or x, name="nap").map([2.8] * 3, name="naps")
        assert batch.results(60) == [2.8] * 3
        worker.close()
        """.replace("\n        ", "\n")
    )
    drawn_at: list[str] = []
    client = NotebookClient(nbformat.v4.new_notebook(cells=[cell]), timeout=100, kernel_name="python3")
    process = client.process_message

    def watch(message: dict[str, Any], *args: Any) -> Any:
        if message["msg_type"] in ("display_data", "update_display_data"):
            drawn_at.append(message["content"]["data"]["text/plain"])
        return process(message, *args)

    client.process_message = watch  # type: ignore[method-assign]
    client.execute(env={**os.environ})
    [output] = cell.outputs
    assert "3/3 · 100%" in output.data["text/plain"]
    assert 'role="progressbar"' in output.data["text/html"]
    assert len(drawn_at) > 1
    assert "0/3" in drawn_at[0]
