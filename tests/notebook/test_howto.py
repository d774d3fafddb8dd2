"""The pages: their Python runs, in order, and gives what their comments say. `tests/test_docs.py` has who runs what."""

from __future__ import annotations

import ast
import re
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blazing_nb import Blazing, Worker
from blazing_nb.store.station import Station
from tests.deployment import until

DOCS = Path(__file__).parents[2] / "docs"
RUN = {
    "howto/configure": "",
    "howto/dependencies": "",
    "howto/effects": "path = bank('bank.db')",
    "howto/executor": "",
    "howto/laptop": "",
    "howto/look": "",
    "howto/outbox": "",
    "howto/recover": "",
    "howto/retries": "",
    "howto/sentinel-cluster-valkey": "",
    "howto/share": "",
    "howto/tune": "",
    "howto/upgrade": "",
    "howto/workflows": "",
}
"""Page -> what is there before its first block, beside `app`, which has a worker."""
SAY_NOTHING = {"howto/sentinel-cluster-valkey", "howto/upgrade"}
"""Their blocks give no value that a comment names."""


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def said(line: str) -> Any:
    """The value that a comment at a line's end says, as in `f(1)  # 2: why`; None where it says none."""
    comment = line.rpartition("  # ")[2]
    for text in (comment, comment.partition(": ")[0]):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            continue
    return None


def execute(block: str, space: dict[str, Any]) -> int:
    """Run it; how many values were compared with what is said of them."""
    compared, lines = 0, block.splitlines()
    for node in ast.parse(block).body:
        if not isinstance(node, ast.Expr):
            exec(compile(ast.Module([node], []), "<page>", "exec"), space)  # noqa: S102 - our own documentation
            continue
        value = eval(compile(ast.Expression(node.value), "<page>", "eval"), space)  # noqa: S307 - as above
        line = lines[(node.end_lineno or 1) - 1]
        if "  # " in line and (expected := said(line)) is not None:
            assert value == expected, line
            compared += 1
    return compared


@pytest.fixture
def bank(tmp_path: Path) -> Any:
    """Makes the tables of the page on effects."""

    def make(name: str) -> str:
        with sqlite3.connect(tmp_path / name) as db:
            db.execute("CREATE TABLE done (operation TEXT PRIMARY KEY, token TEXT)")
            db.execute("CREATE TABLE account (name TEXT PRIMARY KEY, balance INT)")
            db.execute("INSERT INTO account VALUES ('anna', 10)")
        db.close()
        return str(tmp_path / name)

    return make


@pytest.mark.parametrize("name", RUN)
def test_the_python_of_a_page_runs_and_gives_what_it_says(
    name: str, url: str, app_id: str, bank: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLAZING_REDIS_URL", url)
    app_id = "reports" if name == "howto/configure" else app_id
    worker = Worker(app_id, url=url).start()
    space: dict[str, Any] = {"app": Blazing(app_id), "__name__": "page", "bank": bank}
    page = DOCS / f"{name}.md"
    execute(RUN[name], space)
    began = space["app"]
    compared = sum(execute(block, space) for block in blocks(page, "python"))
    assert (compared == 0) == (name in SAY_NOTHING)
    if name == "howto/effects":
        fences(page, space)
    for app in {id(each): each for each in (began, space["app"])}.values():
        app.close()
    worker.close()


def fences(page: Path, space: dict[str, Any]) -> None:
    """What the page says of its two other ways: a repetition finds itself done, and a lower token writes nothing."""
    (statement,) = blocks(page, "sql")
    db = sqlite3.connect(space["path"])
    assert db.execute("SELECT balance FROM account").fetchone() == (15,)
    assert db.execute("SELECT count(*) FROM done").fetchone() == (1,)
    db.execute("CREATE TABLE state (key TEXT PRIMARY KEY, value, token TEXT)")
    for value, token in (("old", "1-2"), ("new", "1-3"), ("zombie's", "1-2")):
        db.execute(statement, {"key": "k", "value": value, "token": token})
    assert db.execute("SELECT value, token FROM state").fetchall() == [("new", "1-3")]
    db.close()


@pytest.mark.slow
def test_the_page_on_workers_runs(
    url: str, app_id: str, fresh_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLAZING_REDIS_URL", url)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "models.py").write_text("loaded = []\ndef load(): loaded.append(1)\n")
    space: dict[str, Any] = {"app": Blazing(app_id), "__name__": "page"}
    run, hook, end = blocks(DOCS / "workers.md", "python")
    execute(hook, space)  # before the first start, so that it has run when that returns
    execute(run.replace("start(4)", "start(2)").replace("scale(2)", "scale(1)"), space)
    app = space["app"]
    app.workers.start(1)

    def loads() -> int:
        import models

        return len(models.loaded)

    assert app.step(loads).enqueue().result(timeout=20) == 1
    execute(end, space)
    until(lambda: app.workers.posts() == [] and not Station(app_id).supervised)
    app.workers.accept()
    app.close()


def test_opentelemetry_is_set_up_as_the_page_says() -> None:
    (block,) = blocks(DOCS / "monitor.md", "python")
    check = "assert type(trace.get_tracer_provider()) is TracerProvider"
    subprocess.run([sys.executable, "-W", "error", "-c", f"{block}\n{check}"], check=True, timeout=60)


def test_the_hubs_configuration_runs_and_names_settings_that_exist() -> None:
    settings = []
    for block in blocks(DOCS / "howto" / "jupyterhub.md", "python"):
        space = {"c": SimpleNamespace(Spawner=SimpleNamespace()), "read_url": lambda team: f"redis://{team}@db"}
        exec(compile(block, "jupyterhub_config.py", "exec"), space)  # noqa: S102 - our own documentation
        settings.append(space["c"].Spawner.environment)
    assert all(name in (DOCS / "howto" / "configure.md").read_text() for found in settings for name in found)
    spawner = SimpleNamespace(user=SimpleNamespace(name="anna"))
    assert settings[1]["BLAZING_REDIS_URL"](spawner) == "redis://anna@db"


@pytest.mark.slow
def test_the_same_program_runs_here_and_compiles_in_the_other_queues_words(
    url: str, fresh_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLAZING_REDIS_URL", url)
    page = (DOCS / "howto" / "come-from.md").read_text()
    tabs = re.findall(r'^=== "(\w+)"\n    ```python\n(.*?)^    ```', page, re.DOTALL | re.MULTILINE)
    assert [name for name, _ in tabs] == ["blazing_nb", "Celery", "dask", "ipyparallel", "RQ"]
    programs = {name: textwrap.dedent(block) for name, block in tabs}
    for name, program in programs.items():
        compile(program, name, "exec")
    space: dict[str, Any] = {"__name__": "page"}
    assert execute(programs["blazing_nb"], space) == 1
    space["app"].workers.stop()
    space["app"].close()
