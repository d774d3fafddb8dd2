"""The Lua scripts: loaded from `lua/`, includes expanded, addressed by the content of the expanded text."""

from __future__ import annotations

import functools
import hashlib
import re
from importlib.resources import files

import msgspec
from redis.exceptions import NoScriptError

from blazing_nb.store.connection import Connection, Reply

_INCLUDE = re.compile(r"^-- @include (\w+)$", re.MULTILINE)


class Script(msgspec.Struct, frozen=True):
    """One verb: its whole text and the address of it."""

    name: str
    text: str
    sha: str

    def run(self, connection: Connection, meta_key: str, *args: bytes | str) -> Reply:
        """EVALSHA; where the server does not know the text (restart, failover, SCRIPT FLUSH), EVAL."""
        try:
            return connection.call("EVALSHA", self.sha, 1, meta_key, *args)
        except NoScriptError:
            return connection.call("EVAL", self.text, 1, meta_key, *args)


def _source(name: str) -> str:
    return (files("blazing_nb.store") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


@functools.cache
def load(name: str) -> Script:
    """The script of that verb, from the package's files."""
    head, _, body = _source(name).partition("\n")
    body = _INCLUDE.sub(lambda found: _source(found.group(1)).rstrip(), body)
    text = f"{head}\n{body}"
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
