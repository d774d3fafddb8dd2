"""The examples in docstrings: every name of the reference has one, and each runs and gives what it says."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import blazing_nb
from blazing_nb import Blazing
from blazing_nb import notebook as views
from blazing_nb.client.connected import ConnectedApp
from tests.conftest import WorkerFactory

PAGE = (Path(__file__).parents[1] / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
NAMES = re.findall(r"^::: (\S+)$", PAGE, re.MULTILINE)
WITHOUT = {
    "what the layers of the package hand each other, no part of the interface": """
        Blazing.define Blazing.define_hook Blazing.recorded Blazing.listener Blazing.ring Blazing.session Blazing.store
        Blazing.writer
        Batch.drawing Batch.extend
        Batch.whereabouts FlowBatch.drawing FlowBatch.whereabouts OperationFuture.abandon OperationFuture.settle
        Progress.done Running.cancel Running.effects Running.news Worker.instructions Workers.want""",
    "blocks until a signal, or prints what moves; tests/worker/test_shutdown.py, tests/notebook/test_depth.py": """
        Worker.run View.watch""",
    "called by joblib; the class has an example of `Parallel`": """
        BlazingBackend.abort_everything BlazingBackend.configure BlazingBackend.effective_n_jobs
        BlazingBackend.retrieve_result_callback BlazingBackend.start_call BlazingBackend.submit
        BlazingBackend.terminate""",
}
HOOKS = {"act", "recorded", "start", "summary", "take", "update"}
"""Called on a view by the pump or the browser; what a view of one's own overrides."""
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def resolve(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


def documented() -> Iterator[tuple[str, str, str]]:
    """(name of the reference, member or "", docstring) of all that the reference promises."""
    for dotted in NAMES:
        value = resolve(dotted)
        yield dotted, "", inspect.getdoc(value) or ""
        if inspect.isclass(value):
            for name, member in members(value).items():
                if not name.startswith("_") and (isinstance(member, property) or inspect.isroutine(member)):
                    yield dotted, name, inspect.getdoc(member) or ""


def members(value: type) -> dict[str, Any]:
    """Its own, and those of the app that `Blazing` is made of."""
    parts = [base for base in value.__mro__ if base is value or issubclass(base, ConnectedApp)]
    return {name: member for part in reversed(parts) for name, member in vars(part).items()}


def overrides(dotted: str, name: str) -> bool:
    """Whether a base class's example says it, too."""
    bases = resolve(dotted).__mro__[1:] if inspect.isclass(resolve(dotted)) and name else ()
    return any("Examples:" in (inspect.getdoc(vars(base).get(name)) or "") for base in bases)


def test_the_reference_has_every_public_name() -> None:
    listed = {name.rpartition(".")[2] for name in NAMES}
    assert {*blazing_nb.__all__, *views.__all__} - listed == {"__version__"}


def is_hook(owner: str, name: str) -> bool:
    return owner.startswith("blazing_nb.notebook.") and name in HOOKS


def test_every_name_of_the_reference_has_an_example_and_no_excuse_is_stale() -> None:
    bare = {
        f"{owner.rpartition('.')[2]}.{name}".strip(".")
        for owner, name, text in documented()
        if "Examples:" not in text and not is_hook(owner, name) and not overrides(owner, name)
    }
    assert bare == {name for names in WITHOUT.values() for name in names.split()}


@pytest.mark.slow
def test_every_example_gives_what_it_says(
    url: str, fresh_home: Path, worker_process: WorkerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLAZING_REDIS_URL", url)
    setup = re.search(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert setup
    names: dict[str, Any] = {"__name__": "page"}
    exec(setup[1], names)  # noqa: S102 - our own documentation
    crew = {"crew": Blazing("crew")}
    parser, told = doctest.DocTestParser(), []
    runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
    worker_process(app="examples")
    for owner, name, text in documented():
        shared = crew if owner.endswith(".Workers") else {}
        test = parser.get_doctest(text, names | shared, f"{owner}.{name}", None, None)
        runner.run(test, out=told.append)
    crew["crew"].workers.stop()
    for part in (names["app"], crew["crew"]):
        part.close()
    assert not runner.failures, "".join(told)
    assert runner.tries > 250
