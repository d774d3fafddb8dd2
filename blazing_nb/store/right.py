"""Which right of its own a Redis user lacks, from the server's refusal and what was asked. Knows how both word it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from blazing_nb.errors import RightMissing

_COMMAND = re.compile(r"no permissions to run the '([^']+)' command")
_MOVING = "BZMOVING"  # every script asks EXISTS first, and says no line
_LINE = re.compile(r"on @user_script:(\d+)")
_CALLED = re.compile(r"redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?")
_GROUPED = {"XGROUP", "XINFO"}


def is_refusal(text: str) -> bool:
    """Whether it is for want of a right."""
    return text.startswith("NOPERM") or "permission" in text or "can't run this command" in text


def missing(text: str, args: Sequence[object] = (), script: str = "") -> str:
    """As an ACL rule has it: `+command`, or `~pattern` for keys. A server of version 7.0 names the line of a script
    only, where several commands may be."""
    named = _COMMAND.search(text)
    if named:
        return f"+{named[1]}"
    if text.startswith(_MOVING):
        return "+exists"
    line = _LINE.search(text)
    commands = _commands(script, int(line[1])) if line and script else []
    if line and "can't run" in text:
        return " or ".join(f"+{command}" for command in commands) or "a command of a script"
    keys = [word for word in args if type(word) is str and word.startswith("bz:{")]
    pattern = f"~{keys[0][: keys[0].index('}:') + 2]}*" if line and keys else "~" + (keys[0] if keys else "KEY")
    return f"{pattern} for {' or '.join(commands)}" if commands else pattern


def _commands(script: str, line: int) -> list[str]:
    rows = script.splitlines()
    found = _CALLED.findall(rows[line - 1]) if line <= len(rows) else []
    return sorted({f"{name}|{sub}".lower() if name in _GROUPED else name.lower() for name, sub in found})


def lack(text: str, args: Sequence[object] = (), script: str = "") -> RightMissing:
    """The error."""
    right = missing(text, args, script)
    return RightMissing(
        f"The store refused the call: {text} This Redis user lacks a right: {right}. `blazing-nb acl APP` prints all "
        "that it needs.",
        code="NOPERM",
        right=right,
        text=text,
    )
