"""Text that others wrote, made fit for one line of a terminal or a page. Pure; never raises."""

from __future__ import annotations

import unicodedata

LIMIT = 300
_HIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
# What turns the direction of its neighbours, or is not seen at all.
_BIDI = frozenset("\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def one_line(value: object, limit: int = LIMIT) -> str:
    """The text of a value without line ends, control characters and turns of direction (they are shown as escapes), and
    not longer than `limit` characters."""
    try:
        text = str(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text  # spaces are; what turns the direction is not
    return "".join(_escape(c) for c in text)


def _escape(char: str) -> str:
    if char in _BIDI or unicodedata.category(char) in _HIDDEN:
        return char.encode("unicode_escape", "backslashreplace").decode()
    return char
