"""Redis ACL rules of an app: enough for all that a client and a worker do, no more, nothing of another app's keys."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

import blazing_nb
from blazing_nb import Blazing, Status, Worker, current, errors, gather
from blazing_nb.cli import main
from blazing_nb.store import acl, query, sharing
from blazing_nb.store.store import Store
from tests.conftest import Child

PASSWORD = "for-this-test"  # noqa: S105
STORE = Path(blazing_nb.__file__).parent / "store"
# Of each command: its arguments, K for a key.
SAMPLES = {
    "blpop": "K 1", "del": "K", "eval": "x 1 K", "evalsha": "x 1 K", "exists": "K", "get": "K", "hdel": "K f",
    "hexists": "K f", "hget": "K f", "hgetall": "K", "hincrby": "K f 1", "hkeys": "K", "hmget": "K f", "hset": "K f v",
    "lset": "K 0 v", "persist": "K",
    "hsetnx": "K f v", "lindex": "K 0", "llen": "K", "lrange": "K 0 1", "lrem": "K 0 x", "ltrim": "K 0 1",
    "pexpire": "K 1",
    "pttl": "K", "rpush": "K v", "sadd": "K m", "scard": "K", "set": "K v", "sismember": "K m", "smembers": "K",
    "srem": "K m", "spop": "K", "hlen": "K", "incr": "K", "incrby": "K 1", "hstrlen": "K f", "srandmember": "K",
    "xack": "K g 1-1", "xadd": "K * f v", "xclaim": "K g c 0 1-1", "xdel": "K 1-1", "xgroup|create": "K g 0",
    "xgroup|delconsumer": "K g c", "xinfo|consumers": "K g", "xinfo|groups": "K", "xinfo|stream": "K", "xlen": "K",
    "xpending": "K g", "xrange": "K - +", "xread": "STREAMS K 0", "xreadgroup": "GROUP g c STREAMS K >",
    "xrevrange": "K + -", "xsetid": "K 1-1", "xtrim": "K MINID 1", "zadd": "K 1 m", "zcard": "K", "zcount": "K 0 1",
    "zincrby": "K 1 m", "zrange": "K 0 1", "zrangebyscore": "K 0 1", "zrangestore": "K K 0 1", "zrem": "K m",
    "zremrangebyscore": "K 0 1", "zrevrange": "K 0 1", "zrevrangebyscore": "K 1 0", "zscore": "K m", "zmscore": "K m",
    "zremrangebyrank": "K 0 1", "zpopmin": "K", "type": "K", "xautoclaim": "K g c 0 0", "lpop": "K", "lpush": "K v",
}  # fmt: skip
KEYLESS = (acl.CONNECTING - {"eval", "evalsha"}) | {"wait"}
RARE = {
    "lpop",
    "lrem",
    "lset",
    "persist",
    "eval",
    "select",
    "xsetid",
    "xgroup|delconsumer",
    "zincrby",
    "xinfo|consumers",
    "time",
    "wait",
}
"""Needed, and not in every run: after SCRIPT FLUSH, an outage, a pruned segment; for another database, a long join,
..."""


@pytest.fixture(scope="module")
def url(single_url: str) -> str:
    """Of a cluster each node has users of its own: `test_right.py`."""
    return single_url


@pytest.fixture
def admin(url: str) -> Iterator[Redis]:
    with Redis.from_url(url) as made:
        yield made


@pytest.fixture
def users(admin: Redis, url: str, app_id: str) -> Iterator[Callable[[str, str], str]]:
    """`users(app, role)`: makes the user as the rules say; its url."""
    names = []

    def make(app: str, role: str) -> str:
        line = next(rule for rule in acl.rules(app) if rule.startswith(f"ACL SETUSER bz-{app}-{role} "))
        words = shlex.split(line.replace("\\", "\\\\"))
        names.append(words[2])
        admin.execute_command(*words, "on", f">{PASSWORD}")
        return url.replace("unix://", f"unix://{quote(words[2], safe='')}@") + f"?password={PASSWORD}"

    yield make
    for name in names:
        admin.execute_command("ACL", "DELUSER", name)


def granted(app: str, role: str) -> set[str]:
    line = next(rule for rule in acl.rules(app) if rule.startswith(f"ACL SETUSER bz-{app}-{role} "))
    return {word[1:] for word in line.split() if word.startswith("+")}


def work(x: int) -> int:
    print("at", x)
    current().progress(x)
    current().effect.incr("n")
    current().effect.publish("news", x)
    current().effect.append("log", x)
    current().effect.set("last", x)
    if x == 3 and current().attempt == 1:
        raise OSError("once")
    if x == 4:
        raise ValueError("always")
    return x


def plain(x: Any = None) -> Any:
    return x


async def both(plus: Any) -> list[Any]:
    await asyncio.sleep(0.05)
    return list(await gather(plus(1), plus(2)))


def spin(go: str) -> None:
    while not current().cancelled:
        if Path(go).exists():
            return


def use_everything(app: Blazing, marker: Path) -> None:
    """The client's and, through it, the worker's paths."""
    step = app.step(work, retries=1, backoff=0.0, retry_on=OSError, max_in_flight=100, rate="10000/s")
    batch = step.map([1, 2, 3, 4], name="run")
    batch.wait(timeout=20)
    assert batch.results(return_exceptions=True)[:3] == [1, 2, 3]
    assert step.options(key="k").enqueue(5).result(20) == step.options(delay=0.05).enqueue(5).result(20) == 5
    with pytest.raises(errors.OperationExpired):
        app.step(lambda: 1, name="late").options(delay=0.05, expires=0.001).enqueue().result(20)
    step.pause()
    waiting = step.enqueue(6)
    assert waiting.cancel() is Status.CANCELLED
    step.resume()
    running = app.step(spin).enqueue(str(marker))
    while running.status not in (Status.RUNNING, Status.CLAIMED):
        pass
    running.cancel()
    running._wait(20)
    assert app.get(app.put([1])) == [1]
    app.put([1])
    assert app.failed().to_frame() is not None
    assert app.failed("work").retry().wait(timeout=20)
    assert len(batch[2].history()) > 3
    assert batch[3].failures() is not None
    assert "at" in batch[0].logs()
    assert len(app.operations(limit=10).to_frame()) == 10
    assert len(app.roll_ups(60)) >= 0
    assert app.snapshot().steps
    assert app.attach("run")[0].id == batch[0].id
    assert app.attach(batch[0].id).result(5) == 1
    (app.step(lambda x: x + 1, name="a") >> app.step(lambda x: x * 2, name="b")).enqueue(1).result(20)
    plus = app.step(plain, name="plus")
    assert plus.enqueue(plus.map([1, 2])).result(20) == [1, 2]
    assert app.step(plain, name="far", lane="process").enqueue((1, 2)).result(60) == (1, 2)
    assert app.workflow(both).enqueue(plus).result(20) == [1, 2]
    assert list(plus.imap(range(5), window=3, timeout=20)) == list(range(5))
    app.step(plain, name="tick").every("1h").pause().remove()
    assert list(app.channel("news"))
    app.channel("news").publish("x")
    assert app.shared().counter("n").value == 5
    app.shared().set("s").add(1)
    app.shared().register("r").set(1)
    assert app.shared().register("r").value == 1
    assert query.paused(app.store) == []
    assert query.due(app.store, ["work"]) == {"work": 0}
    assert query.limits(app.store)["work"] == (100, pytest.approx(10_000))
    app.doctor()
    app.drain(20)
    app.resume()
    batch.forget()


def test_the_rules_are_enough_and_hold_nothing_that_is_not_used(
    admin: Redis, users: Callable[[str, str], str], app_id: str, tmp_path: Path
) -> None:
    app_id = app_id + "[x]*"  # characters of key patterns
    client_url, worker_url = users(app_id, "client"), users(app_id, "worker")
    admin.config_resetstat()
    admin.execute_command("ACL", "LOG", "RESET")
    with Blazing(app_id, url=client_url) as app:
        command = [sys.executable, "-m", "blazing_nb", "worker", "--app", app_id, "--url", worker_url, "--lease", "0.9"]
        worker = Child(command)
        try:
            worker.wait_for_line(lambda line: line.startswith("ready"))
            use_everything(app, tmp_path / "go")
            worker.send(signal.SIGTERM)
            assert worker.wait() == 0, worker.lines
        finally:
            worker.kill()
    refused = [entry for entry in admin.acl_log() if app_id in entry["username"]]
    assert [entry for entry in refused if entry["object"] != "client|setinfo"] == []  # redis-py does without
    used = {name.removeprefix("cmdstat_") for name in admin.info("commandstats")}
    unused = (granted(app_id, "client") | granted(app_id, "worker")) - used - RARE
    assert unused == set()


@pytest.mark.parametrize("role", ["client", "worker"])
def test_every_command_is_refused_on_every_key_of_another_app(
    admin: Redis, users: Callable[[str, str], str], app_id: str, role: str
) -> None:
    users(app_id, role)
    user = f"bz-{app_id}-{role}"
    assert granted(app_id, role) - KEYLESS <= SAMPLES.keys(), "a command is new here: say what its arguments are"
    for command in sorted(granted(app_id, role) - KEYLESS):
        for key, allowed in (
            (f"bz:{{{app_id}:0}}:bell:f", True),
            (f"bz:{{{app_id}x:0}}:bell:f", False),
            (f"bz:{{x{app_id}:0}}:bell:f", False),
            ("anything", False),
        ):
            words = [key if word == "K" else word for word in SAMPLES[command].split()]
            answer = admin.execute_command("ACL", "DRYRUN", user, *command.split("|"), *words)
            assert (answer == b"OK") is allowed, (command, key, answer)
    for command in ("FLUSHALL", "CONFIG GET x", "KEYS *", "SCAN 0", "ACL LIST", "SCRIPT FLUSH", "MONITOR", "SHUTDOWN"):
        assert admin.execute_command("ACL", "DRYRUN", user, *command.split()) != b"OK", command


def test_a_worker_may_not_write_what_maps_a_step_to_its_code(users: Callable[[str, str], str], app_id: str) -> None:
    with Redis.from_url(users(app_id, "worker")) as worker:
        for name in ("code:00", "steps", "blob:00", "batch:b", "nothing"):
            with pytest.raises(NoPermissionError):
                worker.hset(f"bz:{{{app_id}:0}}:{name}", "f", "v")
        assert worker.get(f"bz:{{{app_id}:0}}:code:00") is None


def test_a_shared_channel_is_open_to_the_named_app_alone(
    users: Callable[[str, str], str], url: str, app_id: str
) -> None:
    """C16: by the key, and by the server."""
    with Blazing(app_id, url=url) as owner:
        owner.channel("news", share_with=[f"{app_id}b"]).publish("hello")
        owner.channel("own").publish("secret")
        owner.shared("team", share_with=[f"{app_id}b"]).counter("n").incr(2)
    with Blazing(f"{app_id}b", url=users(f"{app_id}b", "client")) as named:
        named.channel("news", owner=app_id).publish("thanks")
        assert list(named.channel("news", owner=app_id)) == ["hello", "thanks"]
        assert named.shared("team", owner=app_id).counter("n").value == 2
        with pytest.raises(errors.ScriptRefused, match="blazing-nb acl"):
            sharing.newest(named.store, sharing.key_of(app_id, "chan:own"))
    other = Store(f"{app_id}c", users(f"{app_id}c", "client"))
    with pytest.raises(errors.ScriptRefused, match="permission"):
        sharing.newest(other, sharing.key_of(app_id, "chan:news"))
    other.close()


def test_the_lists_hold_every_command_that_is_called_beside_the_scripts() -> None:
    commands = acl.CLIENT_COMMANDS | acl.WORKER_COMMANDS | acl.DURABLE | acl.DISCARDING
    known = {command.partition("|")[0] for command in commands}
    for path in [*STORE.glob("*.py"), *(STORE.parent / "client").glob("*.py"), *(STORE.parent / "worker").glob("*.py")]:
        if path.name not in ("embedded.py", "acl.py"):
            called = re.findall(r"""(?:\.call\(|\bcall\(|args[^=]*= [\[(])\s*"([A-Z]{3,})\"""", path.read_text())
            assert {name.lower() for name in called} <= known, path


def test_the_command_prints_lines_for_redis_cli(
    capsys: pytest.CaptureFixture[str], blazing_home: Path, app_id: str
) -> None:
    assert main(["acl", app_id]) == 0
    client, worker = capsys.readouterr().out.splitlines()
    assert client.startswith(f"ACL SETUSER bz-{app_id}-client reset ~bz:{{{app_id}:*}}:* -@all +")
    assert f"%R~bz:{{{app_id}:*}}:code:*" in worker
    assert main(["acl", "a b"]) == main(["acl", "it's"]) == 2


def test_many_apps_of_one_process_under_their_own_users_at_once(users: Callable[[str, str], str], app_id: str) -> None:
    """I16: same and different apps, each with a worker, at the same time."""
    failures: list[BaseException] = []

    def run(app: str, factor: int, urls: tuple[str, str]) -> None:
        try:
            worker = Worker(app, url=urls[1]).start()
            with Blazing(app, url=urls[0]) as one, Blazing(app, url=urls[0]) as two:
                for made in (one, two):
                    step = made.step(lambda x: (app, factor * x), name="mul")
                    assert step.map(range(50)).results(30) == [(app, factor * x) for x in range(50)]
                assert one.snapshot().steps[0].succeeded == 100
            worker.close()
        except BaseException as error:
            failures.append(error)

    apps = [f"{app_id}-{n}" for n in range(4)]
    urls: dict[str, Any] = {app: (users(app, "client"), users(app, "worker")) for app in apps}
    threads = [threading.Thread(target=run, args=(app, n + 2, urls[app])) for n, app in enumerate(apps)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_with_these_rules_a_worker_answers_prometheus_and_a_client_finds_itself_healthy(
    users: Callable[[str, str], str], app_id: str
) -> None:
    worker = Worker(app_id, url=users(app_id, "worker"), metrics_port=0).start()
    with Blazing(app_id, url=users(app_id, "client")) as app:
        assert app.step(lambda x: -x, name="negative").enqueue(1).result(10) == -1
        assert app.doctor().healthy, str(app.doctor())
    assert worker._exporter is not None
    with urllib.request.urlopen(worker._exporter.address, timeout=10) as reply:  # noqa: S310 - our own
        assert f'blazing_store_up{{app="{app_id}"}} 1.0' in reply.read().decode()
    worker.close()
