"""Nothing in the package waits for another process or machine without a bound."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import blazing_nb
from blazing_nb.store.connection import Connection

PACKAGE = Path(blazing_nb.__file__).parent
BOUNDED = {"run", "check_output", "communicate", "urlopen", "create_connection"}
"""Calls of other processes and machines that wait for ever unless they are told how long."""
WHOSE = {"subprocess", "urllib", "request", "socket", "process"}


def _calls(tree: ast.AST) -> list[ast.Call]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in BOUNDED:
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in WHOSE:
                found.append(node)
    return found


def test_every_call_of_another_process_or_machine_has_a_timeout() -> None:
    seen, missing = 0, []
    for path in PACKAGE.rglob("*.py"):
        for call in _calls(ast.parse(path.read_text())):
            seen += 1
            if not any(keyword.arg == "timeout" for keyword in call.keywords):
                missing.append(f"{path.name}:{call.lineno}")
    assert missing == []
    assert seen >= 2


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:1",
        "rediss://127.0.0.1:1",
        "unix:///tmp/none.sock",
        "redis+sentinel://127.0.0.1:1/main",
        "redis+cluster://127.0.0.1:1",
    ],
)
def test_every_kind_of_connection_has_a_timeout_for_connecting_and_for_answers(url: str) -> None:
    for given, seconds in ((url, 2.5), (f"{url}?socket_timeout=0.5", 0.5)):
        connection = Connection(given, timeout_s=2.5)
        raw = connection._route.make(("127.0.0.1", 1))
        assert (connection.timeout_s, raw.socket_timeout, raw.socket_connect_timeout) == (seconds, seconds, 2.5)
        connection.close()


def test_only_connection_bell_and_courier_speak_to_a_socket() -> None:
    """So that their bounds are everybody's; a courier's is its connection's."""
    users = {path.name for path in PACKAGE.rglob("*.py") if "send_packed_command" in path.read_text()}
    assert users <= {"connection.py", "bell.py", "courier.py"}
