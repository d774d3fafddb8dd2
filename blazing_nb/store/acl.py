"""Rules for Redis ACL users of one app, a client (a notebook, a service) and a worker: what each needs, and no more.

What the scripts call is read from their texts, so the rules follow them; what is called beside them is listed here, and
`tests/store/test_acl.py` checks that the lists are complete, enough, and refused on every other app's keys.
"""

from __future__ import annotations

import re
from importlib.resources import files

from blazing_nb.core.name import check_name
from blazing_nb.errors import UsageError
from blazing_nb.store import grant, script

OF_CLIENTS = frozenset(
    {"cancel", "define", "dismiss", "drain", "enqueue", "forget", "outcomes", "pause", "postpone", "retry", "schedule"}
)
OF_WORKERS = frozenset(
    {"heartbeat", "log", "reassert", "recover", "release", "report", "retire", "tick", "turn", "upcoming"}
)
CONNECTING = frozenset({"client|setname", "eval", "evalsha", "info", "ping", "select", "time"})
CLIENT_COMMANDS = CONNECTING | frozenset(
    "exists get hdel hexists hget hgetall hincrby hmget hsetnx lrange pexpire set smembers wait xadd "  # noqa: SIM905
    "xinfo|groups xpending xrange xread xrevrange xtrim zcount zrange zrevrange zrevrangebyscore".split()
)
OF_CLUSTERS = frozenset({"asking", "cluster|info", "cluster|slots"})
OF_SENTINELS = frozenset({"ping", "sentinel|masters"})
FSYNC = frozenset({"command|info", "waitaof"})
"""What clients call for durability="fsync" beside all the rest. Only where it is asked for: Redis 7.0, which has no
WAITAOF, takes no rule that names it. There `config|get` is needed instead, which shows passwords: give it by hand."""
DURABLE = FSYNC | {"config|get", "wait"}
DISCARDING = frozenset({"scan", "unlink"})
"""What `discard` calls. Not in the rules either: who decides that has them by hand for as long."""
WORKER_COMMANDS = CONNECTING | {"blpop", "get", "hget", "hgetall", "hmget", "hsetnx", "rpush", "set", "wait"}
WORKER_READS = ("blob:*", "code:*", "steps")
WORKER_WRITES = ("bell:*", "chan:*", "mark:*", "shared:*")
"""What scripts or `worker/` touch under names that stand in no script."""

_CALL = re.compile(r"redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?")
_FAMILY = re.compile(r"\bP \.\. '([a-z]+)(:?)")
_WITH_SUBCOMMAND = {"XGROUP", "XINFO"}
_GLOB = re.compile(r"([*?\[\]\\^])")


def rules(app_id: str, kind: str = "", *, fsync: bool = False) -> list[str]:
    """`ACL SETUSER` lines for `bz-<app>-client` and `bz-<app>-worker`, both off and without a password.

    They include what other apps let this one use, as far as this machine knows.

    Args:
        kind: of the store: "cluster", whose nodes are asked about their slots; "sentinel" for a third line, a user of
            the Sentinels; or neither.
        fsync: the server has WAITAOF (Redis 7.2, Valkey), and the client may ask for durability="fsync".

    Raises:
        UsageError: the name has a space, which no key pattern can hold, or a quote, which redis-cli would read.
    """
    if any(c.isspace() or c in "\"'" for c in check_name(app_id, "app_id")):
        raise UsageError(f"An app with a space or a quote in its name ({app_id!r}) cannot have ACL rules; rename it.")
    more = OF_CLUSTERS if kind == "cluster" else frozenset[str]()
    client = _commands(OF_WORKERS) | CLIENT_COMMANDS | more | (FSYNC if fsync else frozenset())
    return [
        _line(app_id, "client", client, [f"~{_prefix(app_id)}*", *_granted(app_id)]),
        _line(app_id, "worker", _commands(OF_CLIENTS) | WORKER_COMMANDS | more, _worker_keys(app_id)),
        *([_line(app_id, "sentinel", OF_SENTINELS, [])] if kind == "sentinel" else []),
    ]


def _line(app_id: str, role: str, commands: set[str] | frozenset[str], keys: list[str]) -> str:
    allowed = " ".join(f"+{command}" for command in sorted(commands))
    return f"ACL SETUSER bz-{app_id}-{role} {' '.join(['reset', *keys])} -@all {allowed}"


def verbs(without: frozenset[str] = frozenset()) -> list[str]:
    """The scripts, but those that are of the other role only."""
    names = [path.name.removesuffix(".lua") for path in (files("blazing_nb.store") / "lua").iterdir()]
    return sorted(name for name in names if not name.startswith("_") and name not in without)


def _commands(without: frozenset[str]) -> set[str]:
    found = {call for verb in verbs(without) for call in _CALL.findall(script.load(verb).text)}
    return {f"{name}|{sub}".lower() if name in _WITH_SUBCOMMAND else name.lower() for name, sub in found}


def _worker_keys(app_id: str) -> list[str]:
    families = {family for verb in verbs(OF_CLIENTS) for family in _FAMILY.findall(script.load(verb).text)}
    written = {"meta", *WORKER_WRITES, *(name + ("*" if colon else "") for name, colon in _keys(families))}
    prefix = _prefix(app_id)
    return [
        *(f"~{prefix}{key}" for key in sorted(written - set(WORKER_READS))),
        *(f"%R~{prefix}{key}" for key in WORKER_READS),
    ]


def _keys(families: set[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name + colon, colon) for name, colon in families]


def _granted(app_id: str) -> list[str]:
    keys = []
    for held in grant.taken(app_id):
        kind, _, name = held.purpose.partition(":")
        keys.append(f"~{_prefix(held.owner)}{kind}:{_literal(name)}{':*' if kind == 'shared' else ''}")
        if kind == "chan":
            keys.append(keys[-1] + ":w")
    return keys


def _prefix(app_id: str) -> str:
    """Of all shards; a name holds no colon, so this is no other app's."""
    return f"bz:{{{_literal(app_id)}:*}}:"


def _literal(name: str) -> str:
    return _GLOB.sub(r"\\\1", name)
