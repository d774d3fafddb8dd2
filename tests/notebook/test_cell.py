"""Durable cells in real kernels with real workers."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from blazing_nb import Blazing, errors
from blazing_nb.core.cell import Cell, reads
from blazing_nb.notebook.cell import cell_step
from blazing_nb.worker.cell import run_cell
from tests.conftest import Child
from tests.notebook.kernel import Kernel

pytestmark = [pytest.mark.slow]
APP = "cells"
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "cells.md"


@pytest.fixture(scope="module")
def start(url: str, blazing_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Kernel]]:
    """Starts kernels with the extension loaded and the app up."""
    made: list[Kernel] = []

    def begin() -> Kernel:
        home = str(tmp_path_factory.mktemp("ipython"))
        kernel = Kernel({"BLAZING_HOME": str(blazing_home), "IPYTHONDIR": home})
        made.append(kernel)
        kernel.run(f"%load_ext blazing_nb\n%blazing up --app {APP} --url {url}")
        return kernel

    yield begin
    for kernel in made:
        kernel.close()


@pytest.fixture(scope="module")
def worker(url: str, blazing_home: Path) -> Iterator[Child]:
    child = Child([sys.executable, "-m", "blazing_nb", "worker", "--app", APP, "--url", url, "--processes", "1"])
    child.wait_for_line(lambda line: line.startswith("ready"))
    yield child
    child.kill()


@pytest.fixture(scope="module")
def shared(start: Callable[[], Kernel], worker: Child) -> Kernel:
    return start()


@pytest.fixture
def app(url: str) -> Iterator[Blazing]:
    with Blazing(APP, url=url) as made:
        yield made


def ended(kernel: Kernel, cell: str, status: str = "SUCCEEDED") -> str:
    """The last line of state, when it says how the cell ended."""
    kernel.until(lambda: any(status in state for state in kernel.states(cell)))
    return next(state for state in reversed(kernel.states(cell)) if status in state)


def test_a_cell_runs_on_a_worker_and_its_output_streams_into_its_own(
    shared: Kernel, worker: Child, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    shared.run(f"import os, pathlib\npath, base = {str(go)!r}, [1, 2]\ndef twice(x): return [2 * v for v in x]")
    cell = shared.run(
        "%%blazing run --name train\n"
        "import sys, time\n"
        "from blazing_nb import current\n"
        "print('first')\n"
        "current().progress(3, 7, 'epochs')\n"
        "while not pathlib.Path(path).exists(): time.sleep(0.01)\n"
        "print('careful', file=sys.stderr)\n"
        "pid = os.getpid()\n"
        "doubled = twice(base)\n"
        "display({'text/html': '<b>bold</b>', 'text/plain': 'bold'}, raw=True)\n"
        "doubled"
    )
    shared.until(lambda: "first" in shared.text(cell))
    other = shared.run("print('another cell')")
    shared.until(lambda: any("3 of 7 epochs" in state for state in shared.states(cell)))
    assert not shared.value("'pid' in globals()")
    go.touch()
    assert "here now: sys, time" not in ended(shared, cell)  # modules stay
    assert (shared.text(cell), shared.text(cell, "stderr")) == ("first\n", "careful\n")
    assert shared.shown(cell) == [{"text/html": "<b>bold</b>", "text/plain": "bold"}, {"text/plain": "[2, 4]"}]
    assert shared.value("(pid, doubled)") == (worker.pid, [2, 4])
    assert shared.text(other) == "another cell\n"


def test_the_cells_of_the_page_run(shared: Kernel) -> None:
    train, pages = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    shared.run("from blazing_nb import current\nmodel, data = {}, [1, 2]\ndef step(model, data): return sum(data) / 2")
    cell = shared.run(train.replace("--name train", "--name epochs"))
    ended(shared, cell)
    assert shared.text(cell) == "".join(f"{epoch} 1.5\n" for epoch in range(100))
    shared.run("def fetch(page): return f'<p>{page}</p>'\ndef parse(text): return text[3:-4]")
    shared.run(pages)
    assert shared.value("app.attach('pages').results(timeout=60)[::99]") == ["1", "100", "199"]
    assert shared.value("loss") == 1.5  # it was assigned in the notebook


def test_a_kernel_that_is_killed_loses_nothing(start: Callable[[], Kernel], worker: Child, tmp_path: Path) -> None:
    """100 operations and a cell are under way when it dies."""
    go = tmp_path / "go"
    kernel = start()
    kernel.run(f"import pathlib, time\npath = {str(go)!r}")
    cell = kernel.run(
        "%%blazing run --name survivor\n"
        "print('before')\n"
        "while not pathlib.Path(path).exists(): time.sleep(0.01)\n"
        "print('after')\n"
        "answer = 42"
    )
    kernel.until(lambda: "before" in kernel.text(cell))
    kernel.run(
        "@app.step\n"
        "def square(x):\n"
        "    while not pathlib.Path(path).exists(): time.sleep(0.01)\n"
        "    return x * x\n"
        "square.map(range(100), name='squares')"
    )
    kernel.kill()
    heir = start()
    cell = heir.run("%blazing attach survivor")
    heir.until(lambda: "before" in heir.text(cell))
    go.touch()
    ended(heir, cell)
    assert heir.text(cell) == "before\nafter\n"
    assert heir.value("answer") == 42
    assert heir.value("app.attach('squares').results(60) == [x * x for x in range(100)]")
    assert heir.value("sorted(set(app.attach('squares').to_frame().attempt))") == [1]
    finished = heir.run("%blazing attach survivor")
    assert heir.text(finished) == "before\nafter\n"  # at once: whoever runs a notebook waits for no thread
    late = heir.run("again = %blazing attach survivor\nprint(again.result(10), again.logs())")
    assert heir.text(late) == "{'answer': 42} before\nafter\n\n"


def test_an_error_has_the_cells_own_lines_and_can_be_looked_into(shared: Kernel) -> None:
    shared.run("numbers = [1, 0]")
    cell = shared.run("%%blazing run --name wrong\nfor number in numbers:\n    inverse = 1 / number\n")
    ended(shared, cell, "FAILED")
    shared.until(lambda: shared.errors(cell))
    [error] = shared.errors(cell)
    text = "\n".join(error["traceback"])
    assert (error["ename"], error["evalue"]) == ("ZeroDivisionError", "division by zero")
    assert 'File "<cell wrong>", line 3' in text
    assert "inverse = 1 / number" in text
    assert "blazing_nb" not in text
    for body, name in (("numbers[7]", "IndexError"), ("raise ValueError('own')", "ValueError")):
        waited = shared.run(f"%%blazing run --wait\n{body}", fails=True)
        assert [error["ename"] for error in shared.errors(waited)] == [name]
        assert "line 2" in "\n".join(shared.errors(waited)[0]["traceback"])
    shared.run("found = %blazing attach wrong\nfound.reproduce()", fails=True)
    shared.run("import sys, traceback\nframes = [f for f, _ in traceback.walk_tb(sys.last_value.__traceback__)]")
    assert shared.value("(frames[-1].f_code.co_filename, frames[-1].f_globals['number'])") == ("<cell wrong>", 0)
    assert shared.value("repr(found.reproduce(run=False).exception)") == "ZeroDivisionError('division by zero')"


def test_a_map_runs_the_cell_for_each_item(shared: Kernel) -> None:
    shared.run("offset = 100")
    shared.run('%%blazing map a, b in [(1, "x y"), (2, "z")] --name pairs --wait\nprint(b)\n(a + offset, b.upper())')
    assert shared.value("app.attach('pairs').results(20)") == [(101, "X Y"), (102, "Z")]
    assert shared.value("app.attach('pairs')[0].logs()") == "x y\n"
    shared.run("%%blazing map --out y --lane process x in range(3)\ny = x * x")
    assert shared.value("_.results(60)") == [0, 1, 4]
    shared.run("%%blazing map x of range(3)\ny = x * x", fails=True)


def test_what_is_large_is_listed_before_it_is_sent_and_comes_back_by_reference(shared: Kernel) -> None:
    shared.run("import numpy\nbig, small = numpy.arange(2_000_000), 3")
    cell = shared.run("%%blazing run --out total --wait\ntotal = big * small")
    assert "Sending 16.0 MB to the store:\n  big " in shared.text(cell)
    assert shared.value("int(total.sum() - 3 * big.sum())") == 0
    left = shared.run("%%blazing run --wait\nlarge, tiny, never = big + 1, 5, (x for x in [])")
    assert "large (16.0 MB, name it with --out)" in shared.text(left, "stderr")
    assert "never (generator cannot be sent)" in shared.text(left, "stderr")
    assert shared.value("(tiny, 'large' in globals())") == (5, False)


def test_figures_arrive_as_pictures_and_as_plotly(shared: Kernel) -> None:
    cell = shared.run(
        "%%blazing run --lane process --wait\n"
        "import matplotlib.pyplot as plt\n"
        "plt.plot([1, 2])\n"
        "plt.show()\n"
        "plt.scatter([1], [2])\n"
        "import plotly.graph_objects as go\n"
        "from IPython.display import display as shown, update_display\n"
        "handle = shown('one', display_id='x')\n"
        "handle.update('two')\n"
        "go.Figure(go.Bar(y=[1, 2]))"
    )
    kinds = [sorted(data) for data in shared.shown(cell)]
    assert kinds.count(["image/png", "text/plain"]) == 2
    [plotly] = [data for data in shared.shown(cell) if "application/vnd.plotly.v1+json" in data]
    assert plotly["application/vnd.plotly.v1+json"]["data"][0]["type"] == "bar"
    assert [d["text/plain"] for d in shared.shown(cell) if list(d) == ["text/plain"]] == ["'one'", "'two'"]
    updates = [m for m in shared.outputs[cell] if m["msg_type"] == "update_display_data"]
    assert any(m["content"]["transient"].get("display_id") == "x" for m in updates)


def test_a_time_out_and_retries_are_those_of_the_line(shared: Kernel) -> None:
    cell = shared.run("%%blazing run --lane process --timeout 0.5\nimport time\nprint('begun')\ntime.sleep(60)")
    ended(shared, cell, "FAILED")
    shared.until(lambda: shared.errors(cell))
    assert shared.errors(cell)[0]["ename"] == "AttemptTimeout"
    again = shared.run(
        "%%blazing run --retries 2 --wait\n"
        "from blazing_nb import current\n"
        "print('attempt', current().attempt)\n"
        "if current().attempt < 2: raise OSError\n"
        "tries = current().attempt"
    )
    assert shared.value("tries") == 2
    assert "attempt 1\n" in shared.text(again)
    assert "begun anew, claim 2" in shared.text(again, "stderr")


@pytest.mark.parametrize("lane", ["thread", "process"])
def test_a_cell_that_looks_at_nothing_can_be_cancelled(shared: Kernel, app: Blazing, lane: str) -> None:
    cell = shared.run(
        f"%%blazing run --lane {lane}\n"
        "print('on and on')\n"
        "while True:\n"
        "    try: sum(range(1000))\n"
        "    except Exception: pass"
    )
    shared.until(lambda: "on and on" in shared.text(cell))
    shared.run("handle = _\nhandle.cancel()")
    ended(shared, cell, "CANCELLED")
    assert shared.value("type(handle.exception(5)).__name__") in ("Cancel", "OperationCancelled")
    timed = shared.run(f"%%blazing run --lane {lane} --timeout 0.3 --wait\nwhile True: pass", fails=True)
    assert shared.errors(timed)[0]["ename"] == "AttemptTimeout"
    # Its thread or process is free again, and unharmed.
    shared.run(f"%%blazing map x in range(16) --lane {lane} --wait --out y\ny = x + 1")
    assert shared.value("_.results(30)") == list(range(1, 17))


def test_what_a_cell_defines_comes_back(shared: Kernel) -> None:
    shared.run(
        "%%blazing run --wait --name classes\n"
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Point:\n"
        "    x: int\n"
        "    def moved(self): return Point(self.x + step)\n"
        "step, point = 10, Point(1)\n"
        "def far(p): return p.moved().moved()"
    )
    assert shared.value("(far(point).x, type(point) is Point)") == (21, True)
    assert shared.value("sorted(_.result())") == ["Point", "far", "point", "step"]
    missing = shared.run("%%blazing map x in [1] --out z\ny = x")
    assert missing
    shared.run("_.results(20)", fails=True)


def test_a_name_is_taken_once_and_can_be_resumed_or_run_again(shared: Kernel) -> None:
    shared.run("%%blazing run --name once --wait\nn = 1")
    taken = shared.run("%%blazing run --name once\nn = 2", fails=True)
    assert "'once' was sent before: --resume follows it, --again forgets it" in shared.text(taken, "stderr")
    shared.run("del n")
    shared.run("%%blazing run --name once --resume --wait\nn = 2")
    assert shared.value("n") == 1
    shared.run("%%blazing run --name once --again --wait\nn = 3")
    assert shared.value("n") == 3
    for _ in range(2):
        shared.run("%%blazing map x in [1, 2] --name each --again --wait\nx * n")
        assert shared.value("_.results()") == [3, 6]
    shared.run("%%blazing map x in [5] --name each --resume --wait\nx")
    assert shared.value("_.results()") == [3, 6]


def test_what_the_user_assigned_meanwhile_stays(shared: Kernel, tmp_path: Path) -> None:
    shared.run(f"import pathlib, time\npath, mine, theirs = {str(tmp_path / 'go')!r}, 1, 1")
    cell = shared.run(
        "%%blazing run\nwhile not pathlib.Path(path).exists(): time.sleep(0.01)\nmine = theirs = 'the cell'"
    )
    shared.run("handle = _\nmine = 'my own value'")
    (tmp_path / "go").touch()
    assert "mine was assigned here meanwhile" in ended(shared, cell)
    assert shared.value("(mine, theirs)") == ("my own value", "the cell")
    assert shared.value("handle.result()") == {"mine": "the cell", "theirs": "the cell"}


def test_an_interrupt_ends_the_waiting_and_not_the_cell(shared: Kernel, tmp_path: Path) -> None:
    shared.run(f"import pathlib, time\npath = {str(tmp_path / 'go')!r}")
    cell = shared.begin(
        "%%blazing run --wait --name patient\n"
        "print('on')\n"
        "while not pathlib.Path(path).exists(): time.sleep(0.01)\npatience = 9"
    )
    shared.until(lambda: "on" in shared.text(cell))
    shared.interrupt()
    assert shared.end(cell) == "error"
    assert "goes on" in shared.states(cell)[-1]
    (tmp_path / "go").touch()
    ended(shared, shared.run("%blazing attach patient"))
    assert shared.value("patience") == 9


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("!ls", "do not run on a worker"),
        ("lock.acquire()", "'lock'|lock, of type"),
        ("x = (", "line 2"),
    ],
)
def test_what_cannot_be_sent_is_said_before_anything_is(shared: Kernel, app: Blazing, body: str, says: str) -> None:
    shared.run("import threading\nlock = threading.Lock()")
    before = app.snapshot().finished, app.snapshot().waiting
    cell = shared.run(f"%%blazing run\n{body}", fails=True)
    said = json.dumps(shared.errors(cell)) + shared.text(cell, "stderr")
    assert any(part in said for part in says.split("|")), said
    assert (app.snapshot().finished, app.snapshot().waiting) == before


def test_text_that_is_not_signed_is_never_run(app: Blazing, worker: Child, tmp_path: Path) -> None:
    """Plain arguments carry no signature: whoever writes to the store must not reach the interpreter by them."""
    step = cell_step(app, "thread")
    evil = f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()"
    with pytest.raises(TypeError, match="signed"):
        step.enqueue(evil).result(20)
    with pytest.raises(TypeError, match="signed"):
        step.enqueue({"source": evil, "file": "x", "variables": {}}).result(20)
    assert not (tmp_path / "ran").exists()


def test_in_a_terminal_the_foreground_prints(url: str, worker: Child, capsys: Any, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path))
        shell = InteractiveShell()
        shell.extension_manager.load_extension("blazing_nb")
        shell.run_line_magic("blazing", f"up --app {APP} --url {url}")
        run = shell.run_cell_magic("blazing", "run --wait --name terminal", "print('there')\nseven = 7")
        assert (shell.user_ns["seven"], run.result()) == (7, {"seven": 7})
        assert capsys.readouterr().out == "there\n"
        assert shell.run_line_magic("blazing", "watch terminal").done()
        assert capsys.readouterr().out == "there\n"
        shell.run_cell_magic("blazing", "run --name broken", "1 / 0").wait(20)
        shell.run_line_magic("blazing", "watch broken")
        assert 'File "<cell broken>", line 2' in capsys.readouterr().err
        shell.user_ns["app"].close()
        shell.extension_manager.unload_extension("blazing_nb")
        shell.history_manager.end_session()
        InteractiveShell.clear_instance()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\ny = x + z", ["z"]),
        ("x += 1", ["x"]),
        ("if a:\n    b = 1\nb", ["a", "b"]),
        ("def f(n):\n    return f(n - 1) + k\nf(3)", ["k"]),
        ("for i in items:\n    total = i\nprint(total)", ["items", "i", "total"]),
        ("import os\nos.getpid()", []),
        ("[q for q in source if q > low]", ["source", "low"]),
        ("class A(Base):\n    size = width", ["Base", "width"]),
        ("await later", ["later"]),
        ("from math import pi\nx: int = pi\ndel x", []),
    ],
)
def test_the_names_that_a_cell_reads_are_found(source: str, expected: list[str]) -> None:
    assert set(expected) <= set(reads(source, "<cell>"))
    assert set(reads(source, "<cell>")) - set(expected) <= {"i", "q", "b", "total"}


def test_a_cell_awaits_at_its_top_and_ends_silently_with_a_semicolon(capsys: Any) -> None:
    cell = Cell("\nimport asyncio\nawait asyncio.sleep(0)\nx = 5\nx;", "<cell>", {})
    found = run_cell(cell)
    assert found.values == {"x": 5}
    assert capsys.readouterr().out == ""
    with pytest.raises(NameError, match="--out"):
        run_cell(Cell("y = 1", "<cell>", {}, out="z"))


def test_an_operation_can_be_reproduced(url: str, app_id: str, worker_process: Any) -> None:
    with Blazing(app_id, url=url) as app:
        step, other = app.step(divide), app.step(divide_later)
        worker_process(app=app_id)
        op = step.enqueue(1, by=0)
        assert isinstance(op.exception(20), ZeroDivisionError)
        with pytest.raises(ZeroDivisionError):
            op.reproduce()
        found = op.reproduce(run=False)
        assert (found.args, found.kwargs, found.function) == ([1], {"by": 0}, divide)
        assert isinstance(found.exception, ZeroDivisionError)
        later = other.enqueue({1}, 0)
        assert later.exception(20) is not None
        with pytest.raises(ZeroDivisionError):
            later.reproduce()
        good = step.enqueue(1, by=2)
        assert good.result(20) == 0.5
        waits = step.enqueue(good, by=0)
        assert isinstance(waits.exception(20), ZeroDivisionError)
        assert waits.reproduce(run=False).args == [0.5]
        step.pause()
        with pytest.raises(errors.UsageError, match="waits for the results of others"):
            step.enqueue(step.enqueue(1, by=1), by=0).reproduce()
        step.resume()
        with pytest.raises(errors.OperationUnknown, match="succeeded"):
            good.reproduce()


def divide(x: float, by: float) -> float:
    return x / by


async def divide_later(x: set[int], by: float) -> float:
    return x.pop() / by
