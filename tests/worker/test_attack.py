"""Attacks by whoever can write to the store and has no key (C15, W20): nothing of theirs is unpickled or run, each
ends as FAILED with its reason, and the worker goes on. And keys that change while work is in flight."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from blazing_nb import Blazing, Status, Worker, errors
from blazing_nb.cli import main
from blazing_nb.core import codec
from blazing_nb.core.code import CodeRecord, seal_code
from blazing_nb.core.outcome import encode_body
from blazing_nb.core.signature import KeyRing
from blazing_nb.store import secret
from blazing_nb.store.request import Chunk
from tests.condition import until

FORGED = KeyRing({"k": b"f" * 32}, "k")


class Bomb:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


def touch(path: Any, x: Any = None) -> Any:
    Path(path).touch()
    return x


def same(x: Any) -> Any:
    return x


Plant = Callable[..., Exception]


@pytest.fixture
def plant(app: Blazing, worker: Worker, tmp_path: Path) -> Iterator[Plant]:
    """`plant(step, envelope)`: an operation of somebody's own; how it ended. In the end: nothing has run, work goes
    on."""
    node = app.store.open_node("evil")
    count = 0

    def enqueue(step: str, envelope: bytes) -> Exception:
        nonlocal count
        count += 1
        app.store.enqueue(Chunk(step, "n", "evil", node, count, [envelope]))
        operation = app.attach(f"{step}:n:evil:{node}-{count}")
        found = operation.exception(20)
        assert operation.status is Status.FAILED
        assert found is not None
        return found

    yield enqueue
    assert not (tmp_path / "ran").exists()
    assert app.step(same, name="healthy").enqueue((1, 2)).result(20) == (1, 2)


def envelope_of(app: Blazing, step: Any, *args: Any) -> bytes:
    """What the step's owner sent for a call that waits."""
    step.pause()
    operation = step.enqueue(*args)
    key = f"{app.store.keys.prefix}seg:{operation.id.rpartition(':')[0]}"
    [(_, fields)] = app.store.connection().call("XREVRANGE", key, "+", "-", "COUNT", 1)
    operation.cancel()
    step.resume()
    return bytes(fields[1])


def test_a_signed_call_cannot_be_replayed_as_another_operation(app: Blazing, plant: Plant, tmp_path: Path) -> None:
    step = app.step(touch)
    envelope = envelope_of(app, step, tmp_path / "ran")
    assert isinstance(plant("touch", envelope), errors.SignatureRefused)
    other = app.step(touch, name="other")
    other.code()
    assert isinstance(plant("other", envelope), errors.TrustError)


def test_a_signed_call_of_another_app_is_refused(app: Blazing, plant: Plant, url: str, tmp_path: Path) -> None:
    app.step(touch).code()
    with Blazing(app.app_id + "b", url=url) as other:
        envelope = envelope_of(other, other.step(touch), tmp_path / "ran")
        code = app.store.connection().call
        digest = codec.code_of(envelope)
        code("SET", app.store.keys.code(digest), other.store.code(digest))
    assert isinstance(plant("touch", envelope), errors.TrustError)


def test_what_was_altered_or_cut_off_is_refused(app: Blazing, plant: Plant, tmp_path: Path) -> None:
    envelope = envelope_of(app, app.step(touch), tmp_path / "ran")
    for at in range(13, len(envelope), max(1, len(envelope) // 12)):
        altered = envelope[:at] + bytes([envelope[at] ^ 4]) + envelope[at + 1 :]
        assert isinstance(plant("touch", altered), errors.TrustError)
        assert isinstance(plant("touch", envelope[:at]), errors.TrustError)


def test_a_pickle_that_nobody_signed_is_not_unpickled(app: Blazing, plant: Plant, tmp_path: Path) -> None:
    step = app.step(touch)
    bomb, code = pickle.dumps([[Bomb(str(tmp_path / "ran"))], {}]), step.code()
    sealed = codec.seal_call((codec.SIGNED, bomb), code, FORGED, b"")
    for envelope in (
        sealed,
        codec.seal_call((codec.SIGNED | codec.BUFFERS, bomb), code, FORGED, b""),
        b"\0" + code + bomb,
        b"\1" + code + b"\0" + b"\0" * 32 + bomb,
        b"\1" + code + bomb,
        b"\x05" + code + b"\xff" * 400,
        b"\x02" + code + b"\xff\xff" + bomb,
    ):
        assert isinstance(plant("touch", envelope), errors.TrustError)


@pytest.mark.parametrize(
    "body",
    [
        b"\x92" + b"\x91" * 200_000,
        b"\x91" * 5000 + b"\xc0", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff", b"", b"\xc0", b"\x92\xc0\xc0", b"\x92\x90\x90", b"\x93\x90\x80\xc0",
        b"\x92\x91\xa1\xff\x80",
        b"\xc1",
    ],
    ids=lambda body: f"{len(body)}-{body[:6].hex()}",
)  # fmt: skip
def test_what_is_no_call_is_refused_whatever_its_depth_or_claimed_size(app: Blazing, plant: Plant, body: bytes) -> None:
    assert isinstance(plant("touch", b"\0" + app.step(touch).code() + body), errors.PayloadInvalid)


def test_a_call_that_is_larger_than_any_is_not_decoded(app: Blazing, plant: Plant) -> None:
    code = app.step(touch).code()
    assert isinstance(plant("touch", b"\0" + code + b"\x90" * codec.ENVELOPE_LIMIT), errors.PayloadInvalid)
    for limit in (0, codec.ENVELOPE_LIMIT):
        with pytest.raises(errors.UsageError, match="payload_limit"):
            Blazing(app.app_id, payload_limit=limit)


def test_code_that_nobody_signed_is_not_loaded(app: Blazing, plant: Plant, tmp_path: Path) -> None:
    """An import path as well as a pickle; and the signed code of one step under the name of another."""
    app.step(touch).code()
    call, argument = app.store.connection().call, msgspec.msgpack.encode([[f"touch {tmp_path / 'ran'}"], {}])
    blob = pickle.dumps(Bomb(str(tmp_path / "ran")))
    for record in (
        CodeRecord("import", "touch", (3, 11), False, ref="os:system"),
        CodeRecord("source", "touch", (3, 11), False, blob=blob),
    ):
        digest, sealed = seal_code(record, app.app_id, "touch", FORGED)
        call("SET", app.store.keys.code(digest), sealed)
        assert isinstance(plant("touch", b"\0" + digest + argument), errors.TrustError)
    other = app.step(same, name="other").code()
    assert isinstance(plant("touch", b"\0" + other + argument), errors.TrustError)
    call("SET", app.store.keys.code(b"z" * 12), app.store.code(other))
    assert isinstance(plant("other", b"\0" + b"z" * 12 + argument), errors.TrustError)


def test_a_result_that_was_moved_or_that_nobody_signed_is_refused(app: Blazing, worker: Worker) -> None:
    batch = app.step(same).map([(1,), (2,), (3,)])
    batch.wait(timeout=20)
    op = batch[0].op
    key = app.store.keys.out(op.node, op.incarnation, op.counter)
    call = app.store.connection().call
    first, second, third = (str(batch[i].op.counter % 128) for i in range(3))
    record = call("HGET", key, third)
    call("HSET", key, first, call("HGET", key, second))
    call("HSET", key, second, record.replace(b"\x80\x05", b"\x80\x04"))
    with pytest.raises(errors.SignatureRefused):
        app.attach(batch[0].id).result(5)
    with pytest.raises(errors.TrustError):
        app.attach(batch[1].id).result(5)
    assert app.attach(batch[2].id).result(5) == (3,)


def test_a_failure_that_nobody_signed_raises_no_object(app: Blazing, worker: Worker, tmp_path: Path) -> None:
    op = app.step(lambda: 1 / 0, name="fails").enqueue()
    op.exception(20)
    key = app.store.keys.out(op.op.node, op.op.incarnation, op.op.counter)
    call, slot = app.store.connection().call, str(op.op.counter % 128)
    sealed = codec.seal((codec.SIGNED, pickle.dumps(Bomb(str(tmp_path / "ran")))), FORGED, b"")
    payload = msgspec.msgpack.encode(("ValueError", "<b>x</b>\x1b[2J", "", sealed))
    call("HSET", key, slot, b"F1-1;" + encode_body(1, 1, 1, 1, 1, payload))
    assert isinstance(app.attach(op.id).exception(5), errors.SignatureRefused)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", "..", "a/b", "$(touch x)", "`x`", "%s%n", "-rf"])
def test_a_name_that_is_a_path_or_a_command_is_only_a_name(
    app: Blazing, worker: Worker, blazing_home: Path, name: str
) -> None:
    before = set(blazing_home.parent.rglob("*"))
    assert app.step(same, name=name).enqueue({name}).result(20) == {name}
    app.step(same, name=name).every("1h", name=name, args=[1]).remove()
    assert {path.parent for path in set(blazing_home.parent.rglob("*")) - before} <= {blazing_home / "keys"}


# -- keys that change


def test_keys_rotate_while_work_is_in_flight(
    app: Blazing, worker_process: Any, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    worker_process()
    step = app.step(same)
    before = step.map([(n,) for n in range(300)])
    for _ in range(2):
        assert main(["key", "rotate", "--app", app.app_id]) == 0
        with Blazing(app.app_id, url=url) as fresh:
            assert fresh.step(same).map([(n,) for n in range(100)]).results(30) == [(n,) for n in range(100)]
    assert before.results(30) == [(n,) for n in range(300)]
    assert step.enqueue((7,)).result(20) == (7,), "a kernel with the old keys goes on"
    ids = re.findall(r"^([ *]) ([0-9a-f]{8})$", capsys.readouterr().out, re.MULTILINE)
    assert [mark for mark, _ in ids[-3:]] == [" ", " ", "*"]
    assert app.store.snapshot().steps[0].failed == 0


def test_a_staged_key_verifies_before_it_signs(app: Blazing) -> None:
    old = secret.load_ring(app.app_id)
    staged = secret.rotate(app.app_id, stage=True)
    assert (staged.current, staged.ids[:1]) == (old.current, old.ids)
    assert len(staged.ids) == 2
    mac = KeyRing(staged.keys, staged.ids[1]).sign(b"x")
    old.verify(*mac, b"x")  # read again, since it did not know the key
    rotated = secret.rotate(app.app_id)
    assert (rotated.current, rotated.ids) == (staged.ids[1], staged.ids)


def test_what_a_dropped_key_signed_is_refused_and_the_rest_is_signed_anew(
    app: Blazing, worker: Worker, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    step = app.step(same)
    schedule = step.every("1h", args=[(1,)])
    waiting = step.options(delay=2.2).enqueue((1,))
    old = secret.load_ring(app.app_id).current
    common = ["--app", app.app_id]
    assert main(["key", "rotate", *common]) == 0
    assert main(["key", "drop", old, *common]) == 0
    assert isinstance(waiting.exception(20), errors.SignatureRefused)
    with Blazing(app.app_id, url=url) as fresh:
        with pytest.raises(errors.SignatureRefused):
            fresh.schedules()
        again = fresh.step(same).every("1h", args=[(1,)])
        assert fresh.step(same).enqueue((2,)).result(20) == (2,)
        assert again.next is not None
        assert schedule.next is not None
    assert main(["key", "drop", secret.load_ring(app.app_id).current, *common]) == 2
    assert main(["key", "drop", *common]) == 2
    assert main(["key", "rotate", "x", *common]) == 2


def test_rotation_reaches_the_apps_that_a_channel_is_shared_with(app: Blazing, url: str) -> None:
    with Blazing(app.app_id + "b", url=url) as other:
        channel = app.channel("news", share_with=[other.app_id])
        theirs = other.channel("news", owner=app.app_id)
        channel.publish(1)
        assert main(["key", "rotate", "--app", app.app_id]) == 0
        with Blazing(app.app_id, url=url) as fresh:
            fresh.channel("news").publish(2)
        theirs.publish(3)
        assert list(theirs) == list(channel) == [1, 2, 3]


def test_a_worker_with_another_key_runs_nothing(
    app: Blazing, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = [app.step(touch).enqueue(tmp_path / "ran"), app.step(same).enqueue(1)]
    secret.write_ring(tmp_path / "other.json", KeyRing({"other": b"o" * 32}, "other"))
    monkeypatch.setenv("BLAZING_KEY_FILE", str(tmp_path / "other.json"))
    worker = Worker(app.app_id, url=url).start()
    for operation in operations:
        assert until(lambda op=operation: op.status, 20)
        assert "Refused" in type(operation.exception(20)).__name__
    worker.close()
    assert not (tmp_path / "ran").exists()
