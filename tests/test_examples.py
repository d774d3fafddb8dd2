"""The examples in docstrings: every name of the reference has one, and each runs and gives what it says."""

from __future__ import annotations

import ast
import doctest
import functools
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import blazing_nb
from blazing_nb import Blazing, errors
from blazing_nb import notebook as views
from tests.conftest import WorkerFactory

PAGE = (Path(__file__).parents[1] / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
NAMES = re.findall(r"^::: (\S+)$", PAGE, re.MULTILINE)
WITHOUT = {
    "what the layers of the package hand each other, no part of the interface": """
        Blazing.define Blazing.define_hook Blazing.recorded Blazing.listener Blazing.ring Blazing.session Blazing.store
        Blazing.writer
        Batch.drawing Batch.extend StagedBatch.drawing StagedBatch.whereabouts
        Batch.whereabouts FlowBatch.drawing FlowBatch.whereabouts OperationFuture.abandon OperationFuture.settle
        Progress.done Running.cancel Running.effects Running.news Worker.instructions Workers.want
        Outbox.accept Outbox.check Outbox.define Outbox.holds Outbox.leave Outbox.ranges Outbox.snapshot Outbox.state
        Outbox.take Outbox.writer OperationId.range Redo.close Redo.define Redo.enqueue Redo.join Redo.redo""",
    "blocks until a signal, or prints what moves; tests/worker/test_shutdown.py, tests/notebook/test_depth.py": """
        Worker.run View.watch""",
    "called by joblib; the class has an example of `Parallel`": """
        BlazingBackend.abort_everything BlazingBackend.configure BlazingBackend.effective_n_jobs
        BlazingBackend.retrieve_result_callback BlazingBackend.start_call BlazingBackend.submit
        BlazingBackend.terminate""",
}
UNLISTED = {"Bulletin", "Setting"}
"""Records within records, which views draw: their fields may change."""
HOOKS = {"act", "recorded", "start", "summary", "take", "update"}
"""Called on a view by the pump or the browser; what a view of one's own overrides."""
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def resolve(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


def members(dotted: str) -> Iterator[tuple[str, Any]]:
    """The public ones of a class; those of a base, too, that has no place of its own in the reference."""
    kind = resolve(dotted)
    seen: set[str] = set()
    for base in kind.__mro__ if inspect.isclass(kind) else ():
        ours = base.__module__.partition(".")[0] == "blazing_nb"
        if not ours or (base is not kind and f"{base.__module__}.{base.__qualname__}" in NAMES):
            continue
        for name, member in vars(base).items():
            is_one = isinstance(member, property | functools.cached_property) or inspect.isroutine(member)
            if is_one and not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, member


def documented() -> Iterator[tuple[str, str, str]]:
    """(name of the reference, member or "", docstring) of all that the reference promises."""
    for dotted in NAMES:
        yield dotted, "", inspect.getdoc(resolve(dotted)) or ""
        for name, member in members(dotted):
            yield dotted, name, inspect.getdoc(member) or ""


def returned(member: Any) -> tuple[str, str]:
    """(module, what is annotated as its value), as text."""
    call = getattr(member, "fget", None) or getattr(member, "func", None) or inspect.unwrap(member)
    return getattr(call, "__module__", ""), str(getattr(call, "__annotations__", {}).get("return", ""))


@functools.cache
def imported(module: str) -> dict[str, str]:
    """Name -> where it comes from, of what a module has of the package, also for annotations alone; and its own."""
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    found = {node.name: f"{module}.{node.name}" for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("blazing_nb."):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def handed_out() -> dict[str, str]:
    """Class of the package -> who gives one: a documented member's value, or a field of a documented record."""
    excused = {name for names in WITHOUT.values() for name in names.split()}
    found: dict[str, str] = {}
    for dotted in NAMES:
        kind, short = resolve(dotted), dotted.rpartition(".")[2]
        texts = [] if inspect.isclass(kind) else [(dotted, *returned(kind))]
        for name, member in members(dotted):
            if f"{short}.{name}" not in excused and not is_hook(dotted, name):
                texts.append((f"{dotted}.{name}", *returned(member)))
        for name, annotation in vars(kind).get("__annotations__", {}).items() if inspect.isclass(kind) else ():
            if not name.startswith("_"):
                texts.append((f"{dotted}.{name}", kind.__module__, str(annotation)))
        for giver, module, text in texts:
            known = imported(module) if module.startswith("blazing_nb") else {}
            found |= {known[word]: giver for word in re.findall(r"\w+", text) if word in known}
    return {name: giver for name, giver in found.items() if inspect.isclass(resolve(name))}


def overrides(dotted: str, name: str) -> bool:
    """Whether a base class's example says it, too."""
    bases = resolve(dotted).__mro__[1:] if inspect.isclass(resolve(dotted)) and name else ()
    return any(shows(inspect.getdoc(vars(base).get(name)) or "") for base in bases)


def shows(text: str) -> bool:
    """Whether it has an example that runs."""
    head, _, tail = text.partition("Examples:\n")
    return ">>> " in tail and "+SKIP" not in tail and ">>> " not in head


def test_the_reference_has_every_public_name() -> None:
    listed = {name.rpartition(".")[2] for name in NAMES}
    assert {*blazing_nb.__all__, *views.__all__} - listed == {"__version__"}


def test_the_reference_has_every_class_that_a_public_name_hands_out() -> None:
    given = {name: giver for name, giver in handed_out().items() if name.rpartition(".")[2] not in UNLISTED}
    assert len(given) > 40
    assert {name: giver for name, giver in given.items() if name not in NAMES} == {}


def test_every_error_that_a_member_raises_itself_is_in_its_docstring() -> None:
    """But `UsageError`, of which the page says it for all."""
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    excused = {name for names in WITHOUT.values() for name in names.split()}
    silent = set()
    for dotted in NAMES:
        for name, member in members(dotted):
            call = getattr(member, "fget", None) or getattr(member, "func", None) or inspect.unwrap(member)
            tree = ast.parse(textwrap.dedent(inspect.getsource(call)))
            raised = {
                node.exc.func.id
                for node in ast.walk(tree)
                if isinstance(node, ast.Raise)
                and isinstance(node.exc, ast.Call)
                and isinstance(node.exc.func, ast.Name)
            }
            said, where = inspect.getdoc(member) or "", f"{dotted.rpartition('.')[2]}.{name}"
            if where not in excused:
                silent |= {(where, kind) for kind in raised & kinds - {"UsageError"} if kind not in said}
    assert silent == set()


def is_hook(owner: str, name: str) -> bool:
    return owner.startswith("blazing_nb.notebook.") and name in HOOKS


def test_every_name_of_the_reference_has_an_example_and_no_excuse_is_stale() -> None:
    bare = {
        f"{owner.rpartition('.')[2]}.{name}".strip(".")
        for owner, name, text in documented()
        if not shows(text) and not is_hook(owner, name) and not overrides(owner, name)
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
    for part in (names["app"], names["away"], crew["crew"]):
        part.close()
    assert not runner.failures, "".join(told)
    assert runner.tries > 250
