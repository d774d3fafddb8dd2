"""Channels and shared values, through the public API: durable, in order, to named apps only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from blazing_nb import Blazing, errors
from blazing_nb.store import sharing


@pytest.fixture
def other(url: str, app_id: str) -> Iterator[Blazing]:
    with Blazing(f"{app_id}-b", url=url) as made:
        yield made


def values(subscription: Any) -> list[Any]:
    return [message.value for message in subscription]


def test_messages_are_durable_in_order_and_resumable(app: Blazing) -> None:
    channel = app.channel("news")
    sent = [1, "two", {"three": 3}, (4, "four"), None]
    positions = [channel.publish(value) for value in sent]
    read = list(app.channel("news").subscribe("first", idle=0))
    assert [message.value for message in read] == sent
    assert [message.position for message in read] == positions == sorted(positions)
    assert values(channel.subscribe(positions[1], idle=0)) == sent[2:]
    assert values(channel.subscribe(idle=0)) == []
    assert list(channel) == sent
    assert read[0].at.tzinfo is not None
    assert read[0].origin.startswith(app.app_id)


def test_a_subscription_waits_and_another_thread_ends_it(app: Blazing) -> None:
    channel = app.channel("news")
    subscription, got, all_here = channel.subscribe(), [], threading.Event()

    def follow() -> None:
        for message in subscription:
            got.append(message.value)
            if message.value == 49:
                all_here.set()

    thread = threading.Thread(target=follow)
    thread.start()
    for n in range(50):
        channel.publish(n)
    assert all_here.wait(20)
    subscription.close()
    thread.join(20)
    assert not thread.is_alive()
    assert got == list(range(50))


def test_an_async_subscription_survives_a_cancelled_wait(app: Blazing) -> None:
    channel = app.channel("news")

    async def follow() -> list[Any]:
        subscription, got = channel.subscribe("first", idle=5), []
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(subscription), 0.05)
        for n in range(20):
            await asyncio.to_thread(channel.publish, n)
        async for message in subscription:
            got.append(message.value)
            if len(got) == 20:
                subscription.close()
        return got

    assert asyncio.run(follow()) == list(range(20))


def test_only_named_apps_have_the_key(app: Blazing, other: Blazing, url: str) -> None:
    channel = app.channel("news", share_with=[other.app_id])
    channel.publish("for b")
    theirs = other.channel("news", owner=app.app_id)
    theirs.publish("from b")
    assert list(theirs) == list(channel) == ["for b", "from b"]
    with Blazing(f"{app.app_id}-c", url=url) as third:
        with pytest.raises(errors.NotShared, match="has not shared"):
            third.channel("news", owner=app.app_id)
        with pytest.raises(errors.NotShared):
            other.channel("secrets", owner=app.app_id)
        assert list(third.channel("news")) == [], "its own channel of that name is another one"
    app.channel("news", share_with=[])
    with pytest.raises(errors.NotShared):
        other.channel("news", owner=app.app_id)
    with pytest.raises(errors.UsageError, match="Only its owner"):
        other.channel("news", owner=app.app_id, share_with=["x"])


def test_what_was_not_signed_with_the_channels_key_is_left_out(
    app: Blazing, other: Blazing, caplog: pytest.LogCaptureFixture
) -> None:
    """Forged, moved from another channel, and repeated under another name: by somebody who can write to Redis."""
    news, rumours = app.channel("news"), app.channel("rumours")
    news.publish("true")
    rumours.publish("false")
    call = app.store.connection().call
    [moved] = sharing.entries(app.store.connection(), rumours.key, "0-0")
    other.channel("news").publish("of another app")
    [foreign] = sharing.entries(app.store.connection(), other.channel("news").key, "0-0")
    for entry in (moved, foreign):
        call("XADD", news.key, "*", "o", entry.origin, "v", entry.payload)
    [own] = sharing.entries(app.store.connection(), news.key, "0-0")[:1]
    call("XADD", news.key, "*", "o", own.origin + "x", "v", own.payload)
    call("XADD", news.key, "*", "o", "x", "v", b"\0\xc0")
    news.publish("the end")
    subscription = news.subscribe("first", idle=0)
    assert values(subscription) == ["true", "the end"]
    assert subscription.refused == 4
    assert caplog.text.count("left out a message") == 4


def test_a_gap_is_an_error_and_not_silence(app: Blazing) -> None:
    channel = app.channel("news", retention=3600)
    app.store.connection().call("XADD", channel.key, "1000-0", "o", "x", "v", "x")
    position = channel.publish("new")
    assert list(channel) == ["new"]
    with pytest.raises(errors.PositionLost) as caught:
        channel.subscribe("500-0")
    assert caught.value.dropped == "1000-0"
    assert values(channel.subscribe("1000-0", idle=0)) == ["new"]
    assert values(channel.subscribe(position, idle=0)) == []
    subscription = channel.subscribe("1000-0", idle=0)
    app.store.connection().call("HSET", channel.key + ":w", "@dropped", "2000-0")
    with pytest.raises(errors.PositionLost):
        next(subscription)


@pytest.mark.parametrize("position", ["", "later", "1", "1-x", "-1-2"])
def test_what_is_no_position_is_refused(app: Blazing, position: str) -> None:
    with pytest.raises(errors.UsageError, match="from_"):
        app.channel("news").subscribe(position)


def test_a_counter_loses_nothing_and_counts_nothing_twice(app: Blazing, url: str) -> None:
    def add(times: int) -> None:
        with Blazing(app.app_id, url=url) as node:
            for _ in range(times):
                node.shared("site").counter("visits").incr(2)

    threads = [threading.Thread(target=add, args=(50,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    counter = app.shared("site").counter("visits")
    counter.incr(-100)
    assert int(counter) == counter.value == 300
    with pytest.raises(errors.UsageError):
        counter.incr(0.5)  # type: ignore[arg-type]


def test_sets_registers_and_maps_read_as_plain_python(app: Blazing, other: Blazing) -> None:
    mine = app.shared("team", share_with=[other.app_id])
    theirs = other.shared("team", owner=app.app_id)
    mine.set("tags").add("a")
    theirs.set("tags").add(("b", 1))
    theirs.set("tags").add("a")
    mine.set("tags").discard("a")
    assert theirs.set("tags").value == mine.set("tags").value == {("b", 1)}
    assert "a" not in mine.set("tags")
    assert len(mine.set("tags")) == 1

    assert mine.register("leader").value is None
    for n in range(3):
        mine.register("leader").set(n)
        theirs.register("leader").set(n + 10)
    assert mine.register("leader").value == 12
    mine.register("leader").clear()
    assert theirs.register("leader").value is None

    mine.map("settings")["colour"] = "red"
    theirs.map("settings")["size"] = [1, 2]
    theirs.map("settings")["colour"] = "blue"
    assert mine.map("settings").value == dict(mine.map("settings")) == {"colour": "blue", "size": [1, 2]}
    assert dict(mine.map("settings").items()) == mine.map("settings").value
    assert "size" in mine.map("settings") and 7 not in mine.map("settings")
    del mine.map("settings")["size"]
    assert sorted(theirs.map("settings")) == ["colour"]
    assert theirs.map("settings").get("size", 7) == 7
    for missing in ("size", "never"):
        with pytest.raises(KeyError):
            mine.map("settings")[missing]
    with pytest.raises(errors.NotShared):
        other.shared("other", owner=app.app_id)


def test_shared_values_that_were_moved_or_forged_are_refused(app: Blazing) -> None:
    """By somebody who can write to Redis."""
    space = app.shared("team")
    space.map("settings")["a"] = "of a"
    call = app.store.connection().call
    key = sharing.key_of(app.app_id, "shared:team:m:settings")
    call("HSET", key, "v:b", call("HGET", key, "v:a"))
    with pytest.raises(errors.SignatureRefused):
        space.map("settings")["b"]
    call("HSET", sharing.key_of(app.app_id, "shared:team:r:x"), "v:", b"9 9 \0\xc3")
    with pytest.raises(errors.TrustError):
        _ = space.register("x").value


@pytest.mark.parametrize("value", ["x" * (1 << 16), (n for n in ())])
def test_what_cannot_be_shared_is_refused_before_it_is_sent(app: Blazing, value: Any) -> None:
    with pytest.raises(errors.UsageError):
        app.shared().register("x").set(value)
    assert app.shared().register("x").value is None
    with pytest.raises(errors.UsageError):
        app.shared().map("m")["k" * 300] = 1
