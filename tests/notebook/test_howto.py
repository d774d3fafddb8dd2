"""The how-to pages: their Python runs, in order, and gives what their comments say; their commands exist."""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
from pathlib import Path
from typing import Any

import pytest

from blazing_nb import Blazing, Worker
from blazing_nb.command import build_parser

DOCS = Path(__file__).parents[2] / "docs"
RUN = ["configure", "dependencies", "executor", "laptop", "look", "outbox", "recover", "retries", "share", "tune"]
RUN += ["upgrade", "workflows"]
PAGES = [DOCS / "howto" / f"{name}.md" for name in (*RUN, "tls-and-acl")]


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def said(line: str) -> Any:
    """The value that a comment at a line's end says, as in `f(1)  # 2: why`; None where it says none."""
    try:
        return ast.literal_eval(line.rpartition("  # ")[2].partition(":")[0])
    except (ValueError, SyntaxError):
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


@pytest.mark.parametrize("name", RUN)
def test_the_python_of_a_page_runs_and_gives_what_it_says(
    name: str, url: str, app_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLAZING_REDIS_URL", url)
    app_id = "reports" if name == "configure" else app_id
    worker = Worker(app_id, url=url).start()
    space: dict[str, Any] = {"app": Blazing(app_id), "__name__": "page"}
    compared = sum(execute(block, space) for block in blocks(DOCS / "howto" / f"{name}.md", "python"))
    assert compared >= {"upgrade": 0}.get(name, 1)
    space["app"].close()
    worker.close()


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


def test_the_commands_of_the_pages_exist() -> None:
    parser, found = build_parser("blazing-nb"), 0
    for page in PAGES:
        commands = [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line[:2] == "$ "]
        commands += re.findall(r"`(blazing-nb [^`]+)`", page.read_text())
        for command in commands:
            program, *arguments = shlex.split(command, comments=True)
            if program == "blazing-nb" and arguments[-1] != "--help":
                assert parser.parse_args(arguments).verb is not None, command
                found += 1
    assert found > 10
