"""What an operation asks to be done with its commit; where shared values and channels are, and what their signatures
are bound to."""

from __future__ import annotations

import msgspec

from blazing_nb.core.shared import COUNTER, REGISTER
from blazing_nb.core.signature import context

LOG = "l"
OWN = "main"
"""The shared space where none is named."""
KINDS = {"incr": COUNTER, "set": REGISTER, "append": LOG}


class Effect(msgspec.Struct, frozen=True):
    """`verb`: incr, set, append, publish. `key`: without the app's prefix. `by`: for incr; else `value`, sealed, with
    its `origin`, which its signature is bound to."""

    verb: str
    key: str
    by: int = 0
    value: bytes = b""
    origin: str = ""


def space_purpose(space: str) -> str:
    """What the keys of a shared space are derived for."""
    return f"shared:{space}"


def channel_purpose(name: str) -> str:
    """What the keys of a channel are derived for; its key in the store too."""
    return f"chan:{name}"


def value_key(space: str, kind: str, name: str) -> str:
    """Of a value in a shared space, without the app's prefix."""
    return f"shared:{space}:{kind}:{name}"


def value_context(owner: str, key: str, detail: str = "") -> bytes:
    """What a signature is bound to. `detail`: the key within a map; the origin of a message."""
    return context(owner, key, b"", detail)
