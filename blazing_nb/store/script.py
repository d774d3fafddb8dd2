"""The Lua scripts: loaded from `lua/`, includes expanded, addressed by the content of the expanded text.

A script runs from its first line each time, so each function costs 0.2 us whether it is called or not. What is seldom
needed stands between `-- @deferred` and `-- @end`: one function that makes them all when the first of those that
`-- @defer` names is called. They may use whatever stands before them.
"""

from __future__ import annotations

import functools
import hashlib
import re
from importlib.resources import files

import msgspec
from redis.exceptions import NoScriptError

from blazing_nb.errors import RightMissing
from blazing_nb.store.connection import Connection, Reply
from blazing_nb.store.right import lack

_INCLUDE = re.compile(r"^-- @include (\w+)$", re.MULTILINE)
_DEFER = re.compile(r"^-- @defer ([\w ]+)$", re.MULTILINE)


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
        except RightMissing as error:
            raise lack(str(error.fields["text"]), (meta_key,), self.text) from error.__cause__


def _source(name: str) -> str:
    return (files("blazing_nb.store") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


@functools.cache
def load(name: str) -> Script:
    """The script of that verb, from the package's files."""
    head, _, body = _source(name).partition("\n")
    body = _INCLUDE.sub(lambda found: _source(found.group(1)).rstrip(), _deferring(body))
    text = f"{head}\n{body}"
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _deferring(body: str) -> str:
    """The text in which what is deferred is made at its first call."""
    found = _DEFER.search(body)
    if found is None:
        return body
    names = found[1].split()
    calls = [f"local function {name}(...) return (LATER or later()).{name}(...) end" for name in names]
    made = ", ".join(f"{name} = {name}" for name in names)
    body = _DEFER.sub("\n".join(("local LATER, later", *calls)), body)
    body = body.replace("-- @deferred\n", "later = function()\n")
    return body.replace("-- @end\n", f"LATER = {{{made}}}\nreturn LATER\nend\n")
