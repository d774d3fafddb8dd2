"""Valid names of apps, steps, nodes, workers and batches: what keys, hash tags and terminals can carry."""

from __future__ import annotations

from blazing_nb.errors import InvalidName

LIMIT = 64
_FORBIDDEN = frozenset(":{}|")


def check_name(value: str, what: str) -> str:
    """Return `value` where it is a name: 1 to 64 bytes, none of `:{}|`, no control characters, not starting with @.

    Raises:
        InvalidName: says which rule was broken.
    """
    if not value or not isinstance(value, str):
        raise InvalidName(f"{what} must be a non-empty text, not {value!r}.", what=what)
    if any(c in _FORBIDDEN or not c.isprintable() for c in value) or value.startswith("@"):
        raise InvalidName(f"{what} {value[:80]!r} may not contain ':{{}}|' or control characters, nor begin with '@'.")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidName(f"{what} {value[:80]!r} is not valid Unicode text.") from error
    if size > LIMIT:
        raise InvalidName(f"{what} {value[:20]!r}... has {size} bytes; the limit is {LIMIT}.")
    return value


def printable(text: str, keep: str = "") -> str:
    """Text for a terminal or a line of a log: what is not printable (escapes that move a cursor, marks that turn the
    direction of writing, line breaks) as its escape, but for the characters to `keep`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
