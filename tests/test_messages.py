"""Error messages as a set: each error has one that the package can say, with a value, and what to do."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

from blazing_nb import errors

ROOT = Path(__file__).parents[1]
EXAMPLES = tomllib.loads((ROOT / "docs" / "reference" / "messages.toml").read_text(encoding="utf-8"))
FAMILIES = {"BlazingError", "OperationError", "StoreError", "TrustError"}
"""Raised by no one: what is caught."""
KINDS = {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.BlazingError)
}


def template(node: ast.expr | None) -> str:
    """A message as a pattern: what is computed may be anything."""
    match node:
        case ast.Constant(value=str(text)):
            return re.escape(text)
        case ast.JoinedStr(values=values):
            return "".join(map(template, values))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return template(left) + template(right)
    return ".+"


def templates() -> dict[str, list[str]]:
    """By error, of all calls in the package; a name stands for what it was last assigned before."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in (ROOT / "blazing_nb").rglob("*.py"):
        nodes = sorted(
            (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if hasattr(node, "lineno")),
            key=lambda node: node.lineno,
        )
        names: dict[str, ast.expr] = {}
        for node in nodes:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    names[name] = value
                case ast.Call(func=ast.Name(id=kind), args=[message, *_]) if kind in KINDS:
                    found[kind].append(template(names.get(message.id) if isinstance(message, ast.Name) else message))
    return found


TEMPLATES = templates()


def test_every_error_has_an_example_and_no_example_is_of_none() -> None:
    assert EXAMPLES.keys() == KINDS - FAMILIES


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_what_the_package_says_and_tells_what_to_do(name: str) -> None:
    example = EXAMPLES[name]
    assert example["do"].endswith(".") and len(example["message"]) > 30
    if "worded" not in example:
        own = [pattern for pattern in TEMPLATES[name] if pattern != ".+"] or TEMPLATES[name]
        assert any(re.fullmatch(pattern, example["message"], re.DOTALL) for pattern in own), own


def test_every_message_has_a_sentence_or_a_value() -> None:
    """None is empty, none a bare word, and those that are read at a call's end end as sentences do."""
    for kind, patterns in TEMPLATES.items():
        for pattern in patterns:
            text = re.sub(r"\\(.)", r"\1", pattern)
            assert len(text) > 10 or ".+" in text, (kind, text)
            if issubclass(getattr(errors, kind), errors.UsageError | errors.OperationTimeout):
                assert text.endswith((".", "+", ")")), (kind, text)
