"""The store of one app: one method a verb, each one script or one command. Owns all Redis traffic.

Knows bytes and numbers, never user values: encoding is `core/codec`, trust is `core/signature`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from blazing_nb.core.code import HOOK
from blazing_nb.core.dot import OperationId, Range
from blazing_nb.core.effect import Effect
from blazing_nb.core.name import check_name
from blazing_nb.core.snapshot import Snapshot
from blazing_nb.errors import ScriptRefused, ShardsFixed
from blazing_nb.store import script, server
from blazing_nb.store.chance import CHANCE
from blazing_nb.store.connection import Argument, Connection, Reply
from blazing_nb.store.connections import Connections
from blazing_nb.store.durability import Durability
from blazing_nb.store.home import file_name
from blazing_nb.store.key import Keys
from blazing_nb.store.refusal import enqueue_refusal
from blazing_nb.store.reply import (
    Claim,
    Reasserted,
    StatusRow,
    Turn,
    parse_claims,
    parse_reasserted,
    parse_snapshot,
    parse_status,
    parse_turn,
)
from blazing_nb.store.request import Chunk, Group, TurnRequest, add_effects, flat, parts, records
from blazing_nb.store.server import Admission
from blazing_nb.store.topology import route

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


class Store:
    """The verbs on one app's data. Every call is atomic, bounded by a deadline, and safe to repeat."""

    def __init__(
        self, app_id: str, url: str, *, shard: int = 0, timeout_s: float = 5.0, deadline_s: float = 15.0
    ) -> None:
        self.keys = Keys(check_name(app_id, "app_id"), shard)
        self.url = url
        self.count = 1
        """How many shards the app has; `store/shards` is several as one."""
        self.shards: list[Store] = [self]
        self._route = route(url, timeout_s=timeout_s, name=f"bz-{file_name(app_id)}")
        self._route.home = self.keys.meta
        self.connections = Connections(self._route, timeout_s, deadline_s)
        self._admission = Admission(self.memory)
        self.durability = Durability(self.keys.prefix + "mark", timeout_s)

    def __repr__(self) -> str:
        return f"<Store app={self.keys.app} connections={len(self.connections)}>"

    def at(self, node: str) -> Store:
        """The shard that has the segments of a node."""
        return self

    def number_of(self, chunk: Chunk) -> int:
        """The number of the shard that a chunk goes to."""
        return 0

    def created_with(self, shards: int | None) -> int:
        """How many shards the app has; where it is new, it has this number from now on. Raises `ShardsFixed`."""
        call = self.connection().call
        found = call("HGET", self.keys.meta, "shards")
        if found is None and shards not in (None, 1) and not call("EXISTS", self.keys.meta):
            call("HSETNX", self.keys.meta, "shards", shards)
            found = call("HGET", self.keys.meta, "shards")
        count = int(found or 1)
        if shards not in (None, count):
            raise ShardsFixed(
                f"App {self.keys.app!r} has {count} shards, fixed when it was created, not {shards}: leave shards= "
                "out (with an outbox, name that number), or create an app of another name and let this one be drained.",
                shards=count,
            )
        return count

    def connection(self) -> Connection:
        """This thread's connection."""
        return self.connections.own()

    def dedicated(self) -> Connection:
        """A connection for one blocking reader."""
        return self.connections.make()

    def discard(self, connection: Connection) -> None:
        """Close a dedicated connection. Repeatable."""
        self.connections.discard(connection)

    def close(self) -> None:
        """Close every connection. Repeatable."""
        self.connections.close()

    def run(self, verb: str, request: object = None, *blobs: bytes, now_ms: int | None = None) -> Reply:
        # Lua's cmsgpack of Redis 7.0 does not read msgpack's bin type: bytes go as arguments of their own.
        args: list[bytes | str] = ["" if now_ms is None else str(now_ms)]
        if request is not None:
            args.append(_pack(request))
        return script.load(verb).run(self.connection(), self.keys.meta, *args, *blobs)

    def check(self, *, allow_eviction: bool = False) -> dict[str, str]:
        """Probe the server; refuse one that cannot keep the promises.

        Raises:
            StoreUnsuitable: older than 7.0, or its memory policy evicts keys.
            ShardsFixed: this is one shard's store, and the app has several.
        """
        if self.count == 1:
            self.created_with(1)
        return server.check(self.connection(), allow_eviction=allow_eviction)

    def prepare(self, level: str) -> None:
        """Raises `StoreUnsuitable` where the servers cannot give that durability."""
        self.durability.prepare(self.connection(), level)

    # -- registration ------------------------------------------------------------------------------------------------

    def open_node(self, node: str, *, now_ms: int | None = None) -> int:
        """Register a start of a node; its incarnation."""
        request = {"kind": "node", "name": node, "random": CHANCE.getrandbits(11)}
        return int(self.run("open", request, now_ms=now_ms))

    def open_worker(
        self, worker_id: str, lease_ms: int, info: Mapping[str, str | int] | None = None, *, now_ms: int | None = None
    ) -> int:
        """Register a start of a worker; its incarnation. Its consumer's name is `<worker_id>.<incarnation>`."""
        request = {
            "kind": "worker",
            "name": worker_id,
            "random": CHANCE.getrandbits(11),
            "lease_ms": lease_ms,
            "info": flat({"lease_ms": lease_ms, **(info or {})}),
        }
        incarnation = int(self.run("open", request, now_ms=now_ms))
        self.restate()
        return incarnation

    def restate(self) -> None:
        """Say how many shards the app has where its first one was emptied, and with it what it said."""
        if self.count > 1 and self.keys.shard == 0:
            self.connection().call("HSETNX", self.keys.meta, "shards", self.count)

    def define(
        self,
        step: str,
        digest: bytes,
        record: bytes,
        options: bytes,
        limits: str = "",
        *,
        now_ms: int | None = None,
    ) -> bool:
        """Record a step, its code and its limits (see `_limit.lua`); True where something was new."""
        request = {"step": step, "hash": digest.hex(), "limits": limits}
        return bool(self.run("define", request, record, options, now_ms=now_ms))

    def steps(self) -> dict[str, bytes]:
        """All steps of the app, with their options as they were defined."""
        flat = self.connection().call("HGETALL", self.keys.steps)
        found = {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}
        found.pop(HOOK, None)
        return found

    def hook(self) -> bytes:
        """What was defined to run when a worker starts, as the options of a step; empty where nothing was."""
        return self.connection().call("HGET", self.keys.steps, HOOK) or b""

    def version(self) -> int:
        """How often the steps have changed."""
        return int(self.connection().call("HGET", self.keys.meta, "version") or 0)

    def code(self, digest: bytes) -> bytes | None:
        """The sealed code record of that hash."""
        found: bytes | None = self.connection().call("GET", self.keys.code(digest))
        return found

    # -- the node's side ---------------------------------------------------------------------------------------------

    def enqueue(self, chunk: Chunk, *, now_ms: int | None = None) -> str:
        """Append a chunk: `added`, `known` (stored before) or `fenced` (never stored; a newer incarnation wrote).

        With a key: the id of the one operation that has it, now or from an earlier call.

        Raises:
            SegmentFull: over the cap; nothing was stored.
            StoreFull: the server's memory is nearly used up; nothing was stored.
            BatchExists: the named batch does not end at `offset`; nothing was stored.
            AppDraining: nothing was stored.
            StoreUnsuitable: the server cannot give the chunk's durability; nothing was stored.
            OperationUncertain: it is stored, and not confirmed to that level.
        """
        self.durability.prepare(self.connection(), chunk.durability)
        self._admission.admit(sum(map(len, chunk.payloads)))
        request = msgspec.structs.asdict(chunk)
        payloads, level = request.pop("payloads"), request.pop("durability")
        request["incarnation"] = str(chunk.incarnation)
        request["joins"] = [[join.at, join.heads(), join.inline()] for join in chunk.joins]
        try:
            answer: bytes = self.run("enqueue", request, *payloads, now_ms=now_ms)
        except ScriptRefused as error:
            raise enqueue_refusal(error, chunk) from error
        if answer != b"fenced":
            self.durability.confirm(self.connection(), level, repeated=answer != b"added")
        return answer.decode()

    def memory(self) -> tuple[int, int]:
        """Bytes that the server uses, and may use (0: no limit)."""
        return server.memory(self.connection())

    def join(
        self,
        op: str,
        round_: int,
        at: int,
        groups: Sequence[object],
        members: Sequence[object],
        *,
        now_ms: int | None = None,
    ) -> int:
        """Register members of a join that is not sealed yet; how many are registered now. See `store/join`."""
        request = {"operation": op, "round": str(round_), "at": at, "groups": groups, "members": members}
        return int(self.run("join", request, now_ms=now_ms))

    def status(self, operations: Sequence[OperationId]) -> list[StatusRow]:
        """One row an operation, in order; final ones with their record."""
        rows: list[StatusRow] = []
        for request in parts(operations):
            rows += parse_status(script.load("status").run(self.connection(), self.keys.meta, _pack(request)))
        return rows

    def cancel(
        self, operations: Sequence[OperationId], *, waiting: bool = False, now_ms: int | None = None
    ) -> list[str]:
        """For each: CANCELLED (ended now), ASKED (its worker was asked to stop), FINAL (too late) or ABSENT; with
        `waiting`, what a worker has claimed is left alone (CLAIMED)."""
        answers: list[str] = []
        for request in parts(operations):
            found = self.run("cancel", request, b"1" if waiting else b"", now_ms=now_ms)
            answers += [answer.decode() for answer in found]
        return answers

    def retry(self, operations: Sequence[OperationId], *, now_ms: int | None = None) -> list[OperationId | None]:
        """Enqueue what ended without success anew; the new ids, None where no arguments are kept."""
        answers: list[OperationId | None] = []
        for request in parts(operations):
            texts = [answer.decode() for answer in self.run("retry", request, now_ms=now_ms)]
            answers += [OperationId.parse(text) if text else None for text in texts]
        return answers

    def forget(self, operations: Sequence[OperationId], batch: str = "", *, now_ms: int | None = None) -> int:
        """Drop outcomes, and at last the record of their batch; how many outcomes there were."""
        dropped = 0
        for request in [*parts(operations), []]:
            name = "" if request else batch
            dropped += int(self.run("forget", {"operations": request, "batch": name}, now_ms=now_ms))
        return dropped

    def pause(self, step: str, paused: bool, *, now_ms: int | None = None) -> bool:
        """Pause or resume the claiming of a step; True where that changed something."""
        return bool(self.run("pause", {"step": step, "paused": int(paused)}, now_ms=now_ms))

    def drain(self, draining: bool, *, now_ms: int | None = None) -> bool:
        """Refuse new operations, or accept them again; True where that changed something."""
        return bool(self.run("drain", {"draining": int(draining)}, now_ms=now_ms))

    def story(self, op: OperationId) -> dict[str, str]:
        """What befell an operation before it was final: deaths, releases, `error:<claim>` -> `<ms>;<text>`."""
        flat = self.connection().call("HGETALL", f"{self.keys.prefix}live:{op.text}")
        text = [item.decode(errors="replace") for item in flat]
        return dict(zip(text[::2], text[1::2], strict=True))

    def history(self, operation: str) -> dict[str, bytes]:
        """What a workflow called and was told, as `_child.lua` keeps it; empty for other operations."""
        flat = self.connection().call("HGETALL", f"{self.keys.prefix}hist:{operation}")
        return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}

    def batch(self, name: str) -> list[Range]:
        """The recorded ranges of a named batch, in order; empty where there is none."""
        items = self.connection().call("LRANGE", self.keys.batch(name), 0, -1)
        return [_range(_unpack(item)) for item in items]

    def follow(
        self, connection: Connection, positions: Mapping[tuple[str, int], str], block_ms: int
    ) -> list[tuple[tuple[str, int], str, list[Any]]]:
        """Wait for completions of (node, incarnation) after the given positions.

        Returns:
            Rows of (which, position, [counter, record, counter, record, ...]); an empty record is too large to
            travel here: ask `status`.
        """
        names = {self.keys.done(*which): which for which in positions}
        args: list[str | int] = ["XREAD", "COUNT", 64, "BLOCK", block_ms, "STREAMS", *names, *positions.values()]
        reply = connection.call(*args, block_s=block_ms / 1000)
        rows: list[tuple[tuple[str, int], str, list[Any]]] = []
        for key, entries in reply or []:
            for entry_id, fields in entries:
                fields[::2] = map(int, fields[::2])
                rows.append((names[key.decode()], entry_id.decode(), fields))
        return rows

    def position(self, node: str, incarnation: int) -> str:
        """The last completion of a node's incarnation: follow from here."""
        newest = self.connection().call("XREVRANGE", self.keys.done(node, incarnation), "+", "-", "COUNT", 1)
        return newest[0][0].decode() if newest else "0-0"

    def wake(self, node: str, incarnation: int) -> None:
        """Add an empty completion, so that a follower of that stream looks up."""
        key = self.keys.done(node, incarnation)
        self.connection().call("XADD", key, "MAXLEN", 1, "*", "0", "")
        self.connection().call("PEXPIRE", key, 60_000)

    def trim(self, node: str, incarnation: int, position: str) -> None:
        """Drop the completions up to `position`; only their node may."""
        ms, sequence = position.split("-")
        self.connection().call("XTRIM", self.keys.done(node, incarnation), "MINID", f"{ms}-{int(sequence) + 1}")

    # -- the worker's side -------------------------------------------------------------------------------------------

    def turn(
        self,
        worker: str,
        incarnation: int,
        groups: Sequence[Group],
        bodies: Sequence[bytes],
        lanes: Sequence[tuple[int, Sequence[str]]],
        *,
        held: int = 0,
        python: str = "",
        payloads: Sequence[bytes] = (),
        effects: Mapping[str, Sequence[Effect]] | None = None,
        now_ms: int | None = None,
    ) -> Turn:
        """Commit what is finished, under the fence, and claim what there is room for.

        `bodies`: one an id, in the order of the groups; each starts with the status letter. `held`: how many
        operations the worker holds beside them. `python`: its minor version ("3.11"), for what others could not load.
        `payloads`: of what follows, by its number. `effects`: of operations (segment:id), done with their commit.
        """
        turn = TurnRequest(worker, incarnation, groups, bodies, lanes, held, python, payloads, effects)
        request, blobs = turn.parts()
        return parse_turn(self.run("turn", request, *blobs, now_ms=now_ms))

    def turn_words(self, turn: TurnRequest) -> list[Argument]:
        """The same turn as one command, for a `Courier`; the server may not know the script."""
        request, blobs = turn.parts()
        return ["EVALSHA", script.load("turn").sha, 1, self.keys.meta, "", _pack(request), *blobs]

    def reassert(
        self,
        worker: str,
        incarnation: int,
        groups: Sequence[Group],
        bodies: Sequence[bytes],
        *,
        payloads: Sequence[bytes] = (),
        effects: Mapping[str, Sequence[Effect]] | None = None,
        now_ms: int | None = None,
    ) -> Reasserted:
        """Commit again, as `turn` did, what a store that went back has lost: final outcomes of nodes' own segments."""
        request = {"worker": worker, "incarnation": str(incarnation), "groups": groups}
        values = add_effects(request, effects, len(bodies) + len(payloads)) if effects else []
        rows = records(incarnation, groups, bodies)
        return parse_reasserted(self.run("reassert", request, *rows, *payloads, *values, now_ms=now_ms))

    def heartbeat(
        self,
        worker: str,
        lease_ms: int,
        info: Mapping[str, str | int] | None = None,
        progress: Iterable[tuple[str, str, int, str]] = (),
        *,
        now_ms: int | None = None,
    ) -> bool:
        """Renew the lease; False where it is lost. `progress`: (segment, id, claim number, text)."""
        request = {"worker": worker, "lease_ms": lease_ms, "info": flat(info or {}), "progress": list(progress)}
        return int(self.run("heartbeat", request, now_ms=now_ms)[0]) == 0

    def report(self, worker: str, progress: Iterable[tuple[str, str, int, str]]) -> None:
        """How far operations came: (segment, id, claim number, text), beside the heartbeat."""
        self.run("report", {"worker": worker, "progress": list(progress)})

    def log(self, rows: Sequence[tuple[str, int, int, str, str]]) -> None:
        """Append to the output of operations: (operation, claim number, number of the text, stream, text)."""
        request = [row[:-1] for row in rows]
        self.run("log", request, *(text.encode(errors="replace") for *_, text in rows))

    def rescue(self, *, now_ms: int | None = None) -> int:
        """Give dead workers' claims back; the number of operations moved."""
        return int(self.run("rescue", now_ms=now_ms))

    def release(
        self,
        worker: str,
        groups: Iterable[tuple[str, list[str], list[int]]],
        *,
        delay_ms: int = 0,
        need: str = "",
        reason: str = "",
        now_ms: int | None = None,
    ) -> int:
        """Give back (segment, ids, claim numbers) that this worker holds; the number released. `need`: only workers of
        that Python get them; `reason`: for the history."""
        request = {"worker": worker, "groups": list(groups), "delay_ms": delay_ms, "need": need, "reason": reason}
        return int(self.run("release", request, now_ms=now_ms))

    def recover(self, worker: str, held: Iterable[str], *, now_ms: int | None = None) -> list[Claim]:
        """The worker's own pending operations that it does not hold: those of a claim whose reply was lost."""
        request = {"worker": worker, "held": dict.fromkeys(held, True)}
        return parse_claims(self.run("recover", request, now_ms=now_ms))

    def instruct(self, text: str, workers: Sequence[str] = (), *, now_ms: int | None = None) -> int:
        """Tell workers, all or these, to `accept`, `drain`, `hold <ms>` or `close <ms>`; how many were told."""
        return int(self.run("instruct", {"text": text, "workers": list(workers)}, now_ms=now_ms))

    def dismiss(self, known_ms: int, *, now_ms: int | None = None) -> int:
        """End, for all supervisors, what was ordered before; `known_ms` is the last time that it was so, as the caller
        knows, and makes the call repeatable. When it was so, on the server's clock."""
        return int(self.run("dismiss", {"known_ms": known_ms}, now_ms=now_ms))

    def dismissed_ms(self) -> int:
        """When all workers were dismissed last; 0 where they never were."""
        return int(self.connection().call("HGET", self.keys.meta, "dismissed") or 0)

    def homed(self, worker: str) -> list[str]:
        """The names here of a worker that is called so in the app's first shard."""
        call, prefix = self.connection().call, self.keys.prefix
        names = [name.decode() for name in call("ZRANGE", f"{prefix}workers", 0, -1)]
        return [name for name in names if call("HGET", f"{prefix}worker:{name}", "home") == worker.encode()]

    def retire(self, worker: str, *, now_ms: int | None = None) -> bool:
        """The worker leaves; True where it was registered."""
        return bool(self.run("retire", {"worker": worker}, now_ms=now_ms))

    # -- the views' side ---------------------------------------------------------------------------------------------

    def snapshot(self, *, now_ms: int | None = None) -> Snapshot:
        """Counts and depths at one moment. Costs O(segments), never O(operations)."""
        reply = script.load("snapshot").run(self.connection(), self.keys.meta, "" if now_ms is None else str(now_ms))
        return parse_snapshot(self.keys.app, reply)


def _range(item: list[Any]) -> Range:
    _, count, segment, incarnation, first = item
    step, prio, node = segment.split(":", 2)
    return Range(step, prio, node, int(incarnation), first, first + count - 1)
