"""`%blazing` in a real InteractiveShell."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import ProvisionalCompleterWarning
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from blazing_nb import Blazing, Snapshot, Worker, cli
from blazing_nb.command import build_parser, verbs
from blazing_nb.errors import AppDraining
from blazing_nb.magic import extension
from blazing_nb.magic.completion import Completer
from blazing_nb.notebook import SegmentDepths
from blazing_nb.store.address import shown
from blazing_nb.verb import Place


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    made = InteractiveShell()
    made.extension_manager.load_extension("blazing_nb")
    yield made
    made.extension_manager.unload_extension("blazing_nb")
    made.history_manager.end_session()
    InteractiveShell.clear_instance()


def magic(shell: InteractiveShell, line: str) -> Any:
    return shell.run_line_magic("blazing", line)


@pytest.mark.slow
def test_up_twice_makes_one_app_one_server_one_set_of_workers(shell: InteractiveShell, fresh_home: Path) -> None:
    from blazing_nb.store import embedded

    app = magic(shell, "up --app m1 --workers 1")
    server = embedded.find()
    assert magic(shell, "up --app m1 --workers 1") is app is shell.user_ns["app"]
    assert embedded.find() == server
    assert len(app.workers) == len(app.snapshot().workers) == 1
    assert len(magic(shell, "workers")) == 1
    shell.run_cell("@app.step\ndef triple(x): return 3 * x\nvalue = triple.enqueue(5).result(10)")
    assert shell.user_ns["value"] == 15
    assert isinstance(magic(shell, "status"), Snapshot)
    assert list(magic(shell, "segments --once").step) == ["triple"]
    magic(shell, "down")
    assert embedded.find() is None
    assert app.closed
    again = magic(shell, "up --app m1")
    assert again is not app
    assert again.snapshot().finished == 1
    magic(shell, "down")


def test_a_magics_value_can_be_assigned(shell: InteractiveShell, url: str, app_id: str) -> None:
    magic(shell, f"up --app {app_id} --url {url}")
    shell.run_cell("now = %blazing status")
    assert shell.user_ns["now"].app == app_id
    view = magic(shell, "segments")
    assert isinstance(view, SegmentDepths)
    with pytest.raises(UsageError, match="another store"):
        magic(shell, f"up --app {app_id} --url redis://127.0.0.1:1")
    shell.user_ns["app"].close()


@pytest.mark.parametrize(
    "line", ["upp", "up --workers many", "up --app a:b", "workers -- -3", "segments --twice", "up 'x"]
)
def test_bad_input_is_one_line_with_a_hint(shell: InteractiveShell, url: str, line: str) -> None:
    shell.user_ns["app"] = Blazing("hint", url=url)
    with pytest.raises(UsageError):
        magic(shell, line)


def test_an_unknown_verb_is_told_what_it_may_mean(shell: InteractiveShell) -> None:
    with pytest.raises(UsageError, match=r"has no verb 'statsu'. Did you mean 'status'\? There are: up, down,"):
        magic(shell, "statsu")


def test_a_question_mark_shows_how_to_begin(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("%blazing", "%%blazing"):
        assert "%blazing up --workers 2" in shell.inspector.info(shell.find_magic("blazing"), name)["docstring"]


def test_help_prints_and_goes_on(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    assert magic(shell, "") is None
    assert magic(shell, "up --help") is None
    assert "--workers" in capsys.readouterr().out


def test_loading_twice_and_unloading_is_harmless(shell: InteractiveShell) -> None:
    import blazing_nb

    blazing_nb.load_ipython_extension(shell)
    matchers = len(shell.Completer.custom_matchers)
    blazing_nb.unload_ipython_extension(shell)
    assert len(shell.Completer.custom_matchers) == matchers - 1
    assert "blazing" not in shell.magics_manager.magics["line"]
    blazing_nb.unload_ipython_extension(shell)
    blazing_nb.load_ipython_extension(shell)
    assert "blazing" in shell.magics_manager.magics["line"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%blazing ", {"up", "down", "status", "workers", "segments"}),
        ("%blazing up --", {"--app", "--workers", "--url"}),
        ("%blazing segments ", {"--once", "--app"}),
        ("%%blazing ", {"run", "map"}),
        ("%%blazing run --lane ", {"thread", "process"}),
        ("%%blazing map x in y --", {"--out", "--name", "--wait"}),
    ],
)
def test_verbs_and_flags_are_completed(shell: InteractiveShell, line: str, expected: set[str]) -> None:
    assert expected <= set(completer(shell).words(line))


def completer(shell: InteractiveShell) -> Completer:
    return extension._loaded[id(shell)].completer


def test_the_completer_offers_a_flag_at_the_cursor(shell: InteractiveShell) -> None:
    shell.Completer.use_jedi = False
    assert completed(shell, "%blazing up --wo") == {"%blazing up --workers"}
    assert completed(shell, "%blazing st") == {"%blazing status"}
    assert not any("workers" in text for text in completed(shell, "blazing_x"))


def completed(shell: InteractiveShell, line: str) -> set[str]:
    """The line with each completion put in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProvisionalCompleterWarning)
        found = list(shell.Completer.completions(line, len(line)))
    return {line[: match.start] + match.text + line[match.end :] for match in found}


@pytest.mark.parametrize(
    ("prog", "verb"), [(prog, verb.name) for prog in ("%blazing", "blazing-nb") for verb in verbs(prog)]
)
def test_every_verb_has_its_help_wherever_it_can_be_said(
    prog: str, verb: str, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    if prog == "%blazing":
        assert magic(shell, f"{verb} --help") is None
    else:
        with pytest.raises(SystemExit, match="0"):
            cli.main([verb, "--help"])
    assert f"usage: {prog} {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("prog", ["%blazing", "%%blazing", "blazing-nb"])
def test_every_verb_has_examples_that_can_be_said(prog: str) -> None:
    for verb in verbs(prog):
        assert verb.examples
        for line in verb.examples:
            assert build_parser(prog).parse_args(shlex.split(verb.quoted(line))).verb is verb, line


ELSEWHERE = {"up", "down", "workers", "faults"}
"""They start or stop processes of this machine: they run in the tests of their own."""


def test_the_examples_of_the_verbs_run(
    url: str, app_id: str, fresh_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Blazing(app_id, url=url) as app, closing(Worker(app_id, url=url).start()):
        charge = app.step(fail, name="charge")
        charge.map(["a", "b"], name="charges").wait(20)
        charge.cron("0 0 1 1 *", name="morning", args=["x"])
        for verb in verbs("blazing-nb"):
            if verb.place is Place.TERMINAL or verb.name in ELSEWHERE:
                continue
            for line in verb.examples:
                words = shlex.split(line.replace("charge:n:etl-1:3749-7", app.attach("charges")[0].id))
                assert cli.main([*words, "--app", app_id, "--url", url]) in (0, int(verb.name == "doctor")), line
                assert capsys.readouterr().out or verb.name == "logs", line


def test_the_command_line_prints_what_the_magic_returns(
    shell: InteractiveShell, url: str, app_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status", "--app", app_id, "--url", url]) == 0
    printed = capsys.readouterr().out
    shell.user_ns["app"] = Blazing(app_id, url=url)
    assert printed.strip() == repr(magic(shell, "status"))
    assert cli.main(["no-such-verb"]) == 2
    shell.user_ns["app"].close()


def test_names_are_completed_from_memory(shell: InteractiveShell, url: str, app_id: str) -> None:
    app = magic(shell, f"up --app {app_id} --url {url}")
    operation = app.step(len, name="measure").enqueue("abc")
    app.step(len, name="measure").map(["a"], name="lengths")
    other = Blazing(app_id, url=url).connect()  # a kernel that made none of them
    shell.user_ns["app"] = other
    shell.run_cell("1")
    learner = completer(shell).memory.thread
    assert learner is not None
    learner.join(20)
    other.close()  # completing asks nobody
    shell.Completer.use_jedi = False
    assert completed(shell, "%blazing pause m") == {"%blazing pause measure"}
    assert completer(shell).words("%blazing ops --step ") == ["measure"]
    assert {"lengths", operation.id} <= set(completer(shell).words("%blazing attach "))
    assert completer(shell).words("%blazing op ")[0] == operation.id
    assert "SUCCEEDED" in completer(shell).words("%blazing ops --status ")
    shell.user_ns["mine"] = app.step(len, name="measure").map(["b"], name="mine")
    assert completer(shell).words("%blazing watch m")[0] == "mine"
    app.close()


def test_the_verbs_work_on_what_another_kernel_enqueued(
    shell: InteractiveShell, url: str, app_id: str, worker_process: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with Blazing(app_id, url=url) as maker:
        good, bad = maker.step(shout).enqueue("a"), maker.step(fail).map(["x", "y"], name="bad")
        magic(shell, f"up --app {app_id} --url {url}")
        assert magic(shell, "pause") == ["fail", "shout"]
        waiting = maker.step(shout).enqueue("late")
        assert magic(shell, f"cancel {waiting.id}") == "CANCELLED"
        assert magic(shell, "resume fail") == ["shout"]
        worker_process()
        assert bad.wait(20)
        assert not good.done()
        assert magic(shell, "resume") == []
        assert good.result(20) == "A"
    assert magic(shell, f"op {good.id}").result(5) == "A"
    assert repr(magic(shell, f"logs {good.id}")) == "a!\n"
    assert magic(shell, f"logs {good.id} --follow").id == good.id
    assert magic(shell, f"watch {good.id}").done()
    assert capsys.readouterr().out == "a!\n" * 2
    assert len(magic(shell, "attach bad")) == len(magic(shell, "watch bad")) == 2
    assert len(magic(shell, "ops --status FAILED --step fail")) == 2
    with pytest.raises(UsageError, match="attach bad"):
        magic(shell, "op bad")
    with pytest.raises(UsageError, match="there are: fail, shout"):
        magic(shell, "pause no-such-step")
    assert len(magic(shell, "retry bad --dry-run")) == 2
    assert len(magic(shell, "retry bad")) == 2
    assert len(magic(shell, "retry bad")) == 0
    shell.user_ns["app"].close()


def test_a_drained_app_accepts_nothing_until_it_is_resumed(
    shell: InteractiveShell, url: str, app_id: str, worker_process: Any
) -> None:
    app = magic(shell, f"up --app {app_id} --url {url}")
    step = app.step(shout)
    batch = step.map("abc")
    drained = magic(shell, "drain --timeout 0.2")
    assert (drained.left, drained.empty) == (3, False)
    with pytest.raises(AppDraining, match="resume"):
        step.enqueue("d")
    assert cli.main(["drain", "--app", app_id, "--url", url, "--timeout", "0"]) == 1
    worker_process()
    assert magic(shell, "drain").empty
    assert batch.results(20) == ["A", "B", "C"]
    with Blazing(app_id, url=url) as other, pytest.raises(AppDraining):
        other.step(shout).map("ab", name="named")
    magic(shell, "resume")
    assert step.enqueue("d").result(20) == "D"
    app.close()


def test_an_url_is_shown_without_its_password() -> None:
    assert shown("redis://me:secret@host:6379/0") == "redis://me:***@host:6379/0"
    assert shown("rediss://:secret@host/1?password=secret") == "rediss://:***@host/1?..."
    assert shown("unix:///tmp/a.sock") == "unix:///tmp/a.sock"


def shout(text: str) -> str:
    print(f"{text}!")
    return text.upper()


def fail(text: str) -> None:
    raise ValueError(text)
