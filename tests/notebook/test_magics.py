"""`%blazing` in a real InteractiveShell."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import ProvisionalCompleterWarning
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from blazing_nb import Blazing, Snapshot, cli
from blazing_nb.command import verbs
from blazing_nb.magic.completion import words
from blazing_nb.notebook import SegmentDepths


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
    ],
)
def test_verbs_and_flags_are_completed(line: str, expected: set[str]) -> None:
    assert expected <= set(words(line))


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


def test_the_command_line_prints_what_the_magic_returns(
    shell: InteractiveShell, url: str, app_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status", "--app", app_id, "--url", url]) == 0
    printed = capsys.readouterr().out
    shell.user_ns["app"] = Blazing(app_id, url=url)
    assert printed.strip() == repr(magic(shell, "status"))
    assert cli.main(["no-such-verb"]) == 2
    shell.user_ns["app"].close()
