"""Completion of verbs, flags and step names after `%blazing`. From memory only; asks nobody."""

from __future__ import annotations

import argparse
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher
from IPython.core.interactiveshell import InteractiveShell

from blazing_nb.command import build_parser


def words(line: str) -> list[str]:
    """What may follow, for a line that begins with the magic; the last word is the one being typed."""
    typed = line.split()
    if not line.endswith(" "):
        typed = typed[:-1]
    verbs = _verbs()
    chosen = next((word for word in typed[1:] if word in verbs), None)
    if chosen is None:
        return sorted(verbs)
    return sorted(flag for action in verbs[chosen]._actions for flag in action.option_strings if flag.startswith("--"))


def _verbs() -> dict[str, argparse.ArgumentParser]:
    parser = build_parser("%blazing")
    action = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


@context_matcher()  # type: ignore[untyped-decorator]
def blazing_matcher(context: CompletionContext) -> dict[str, Any]:
    """Matches lines that begin with %blazing or %%blazing; silent elsewhere."""
    line = context.full_text.split("\n")[context.cursor_line][: context.cursor_position]
    if line.split(" ", 1)[0].lstrip("%") != "blazing" or not line.startswith("%") or " " not in line:
        return {"completions": []}
    prefix = "" if line.endswith(" ") else line.split()[-1]
    # IPython's token drops leading dashes: only what follows them is replaced.
    cut = len(prefix) - len(context.token) if prefix.endswith(context.token) else 0
    found = [SimpleCompletion(word[cut:]) for word in words(line) if word.startswith(prefix)]
    return {"completions": found, "suppress": True}


def add(ip: InteractiveShell) -> None:
    if blazing_matcher not in ip.Completer.custom_matchers:
        ip.Completer.custom_matchers.append(blazing_matcher)


def remove(ip: InteractiveShell) -> None:
    if blazing_matcher in ip.Completer.custom_matchers:
        ip.Completer.custom_matchers.remove(blazing_matcher)
