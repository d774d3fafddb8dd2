"""What a user without a right is told; and that the documented rights are all that is needed, on a cluster and behind
Sentinels too."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis

from blazing_nb import Blazing, Worker
from blazing_nb.errors import RightMissing
from blazing_nb.store import acl
from blazing_nb.store.connection import Connection
from tests.conftest import Child, python_command
from tests.deployment import HOST, Cluster, Deployment, Sentinels, deployed
from tests.store.test_acl import PASSWORD, SAMPLES, admin, use_everything, users

__all__ = ["admin", "users"]
Users = Callable[[str, str], str]
DIRECT = sorted((acl.CLIENT_COMMANDS | acl.WORKER_COMMANDS) & SAMPLES.keys())


@pytest.fixture(scope="module")
def url(single_url: str) -> str:
    """On the others it is the last tests here."""
    return single_url


def shrink(admin: Redis, app_id: str, role: str, command: str) -> None:
    admin.execute_command("ACL", "SETUSER", f"bz-{app_id}-{role}", f"-{command}")


@pytest.mark.parametrize("command", DIRECT)
def test_a_command_that_a_user_lacks_is_named(admin: Redis, users: Users, app_id: str, command: str) -> None:
    role = "client" if command in acl.CLIENT_COMMANDS else "worker"
    connection = Connection(users(app_id, role))
    shrink(admin, app_id, role, command)
    key = f"bz:{{{app_id}:0}}:bell:x"
    words = [key if word == "K" else word for word in SAMPLES[command].split()]
    with pytest.raises(RightMissing, match="blazing-nb acl") as caught:
        connection.call(*command.upper().split("|"), *words)
    assert caught.value.fields["right"] in (f"+{command}", f"+{command.partition('|')[0]}")
    connection.close()


def test_a_key_that_a_user_lacks_is_named(users: Users, app_id: str) -> None:
    connection = Connection(users(app_id, "client"))
    with pytest.raises(RightMissing) as caught:
        connection.call("GET", "bz:{other:0}:meta")
    assert caught.value.fields["right"] == "~bz:{other:0}:meta"
    connection.close()


def test_a_command_that_a_script_lacks_is_named_though_the_server_says_the_line_only(
    admin: Redis, users: Users, app_id: str
) -> None:
    named = set()
    with Blazing(app_id, url=users(app_id, "client"), redo=False) as app:
        for number, command in enumerate(sorted(acl._commands(acl.OF_WORKERS))):
            shrink(admin, app_id, "client", command)
            try:
                app.step(abs, name=f"step-{number}").options(delay=60).enqueue(2)
            except RightMissing as error:
                assert f"+{command}" in error.fields["right"].split(" or ")
                named.add(command)
            users(app_id, "client")
    assert {"exists", "hset", "xadd", "zadd"} <= named


def test_a_worker_that_may_not_listen_says_so(
    admin: Redis, users: Users, app_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It looks by itself each second, so that much works, and slowly: that must not stay unnoticed."""
    url = users(app_id, "worker")
    shrink(admin, app_id, "worker", "blpop")
    with Blazing(app_id, url=users(app_id, "client")) as app:
        operation = app.step(lambda x: x, name="same").enqueue(1)
        worker = Worker(app_id, url=url).start()
        assert operation.result(20) == 1
    worker.close()
    said = [record.message for record in caplog.records if "+blpop" in record.message]
    assert 1 <= len(said) <= 2, "each bell says it once"


def grant(ports: list[int], line: str) -> str:
    """Make that user there; its name."""
    words = shlex.split(line.replace("\\", "\\\\"))
    for port in ports:
        with Redis(HOST, port) as one:
            one.execute_command(*words, "on", f">{PASSWORD}")
    return words[2]


def work(made: Deployment, app_id: str, urls: list[str], marker: Path) -> None:
    """Everything, under both users; nothing was refused on any server."""
    command = python_command("worker", "--app", app_id, "--url", urls[1], "--lease", "0.9")
    worker = Child(command)
    try:
        worker.wait_for_line(lambda line: line.startswith("ready"))
        with Blazing(app_id, url=urls[0]) as app:
            use_everything(app, marker)
            assert app.step(abs, name="kept").options(durability="replicated").enqueue(-1).result(20) == 1
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0, worker.lines
    finally:
        worker.kill()
    for port in made.processes:
        with Redis(HOST, port) as one:
            refused = [entry["object"] for entry in one.acl_log() if entry["username"].startswith("bz-")]
            assert set(refused) <= {"client|setinfo"}, (port, refused)  # redis-py does without


@pytest.mark.slow
def test_the_documented_rights_are_enough_on_a_cluster(app_id: str, tmp_path: Path) -> None:
    with deployed("cluster") as made:
        assert isinstance(made, Cluster)
        names = [grant(made.servers, line) for line in acl.rules(app_id, "cluster")]
        urls = [made.url.replace("//", f"//{quote(name, safe='')}:{PASSWORD}@") for name in names]
        work(made, app_id, urls, tmp_path / "go")
        for port in made.servers:
            with Redis(HOST, port) as one:
                one.execute_command("ACL", "SETUSER", names[0], "-cluster|slots")
        connection = Connection(urls[0])
        with pytest.raises(RightMissing) as caught:
            connection.call("PING")
        assert caught.value.fields["right"] == "+cluster|slots"
        connection.close()


@pytest.mark.slow
def test_the_documented_rights_are_enough_behind_sentinels(app_id: str, tmp_path: Path) -> None:
    with deployed("sentinel") as made:
        assert isinstance(made, Sentinels)
        client, worker, asker = acl.rules(app_id, "sentinel")
        names = [grant(made.servers, line) for line in (client, worker)]
        login = f"?sentinel_username={quote(grant(made.sentinels, asker), safe='')}&sentinel_password={PASSWORD}"
        for port in made.sentinels:
            with Redis(HOST, port) as one:
                one.execute_command("ACL", "SETUSER", "default", "-sentinel|masters")
        urls = [made.url.replace("//", f"//{quote(name, safe='')}:{PASSWORD}@") + login for name in names]
        work(made, app_id, urls, tmp_path / "go")
        connection = Connection(urls[0].partition("?")[0])
        with pytest.raises(RightMissing) as caught:
            connection.call("PING")
        assert caught.value.fields["right"] == "+sentinel|masters"
        connection.close()
