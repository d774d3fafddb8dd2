"""The scripts behind shared values and channels, on a real server: the same join as `core/shared.py` (P9), run
twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blazing_nb.core.shared import Fields, join
from blazing_nb.errors import ScriptRefused
from blazing_nb.store import sharing
from blazing_nb.store.store import Store
from tests.core.test_shared import DELTAS

HERE = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def store(url: str, app_id: str) -> Iterator[Store]:
    made = Store(app_id, url)
    yield made
    made.close()


def publish(store: Store, key: str, n: int, text: bytes, *, writer: str = "w", retention_ms: int = -1) -> str:
    return sharing.publish(store, key, writer, n, f"{writer}-{n}", text, retention_ms=retention_ms, fallback_ms=0)


@pytest.mark.parametrize("kind", DELTAS)
@HERE
@given(data=st.data())
def test_merge_is_the_join_of_the_core(store: Store, kind: str, data: st.DataObject) -> None:
    key = sharing.key_of(store.keys.app, f"shared:s:{kind}:x")
    store.connection().call("DEL", key)
    expected: Fields = {}
    for delta in data.draw(st.lists(DELTAS[kind], max_size=6)):
        before, expected = expected, join(kind, expected, delta)
        changed = sum(before.get(field) != value for field, value in expected.items())
        assert sharing.merge(store, key, kind, delta) == changed
        assert sharing.merge(store, key, kind, delta) == 0
        assert sharing.state(store, key) == expected


@pytest.mark.parametrize(
    ("kind", "delta"),
    [("q", {b"p:1": b"1"}), ("c", {b"p:1": b"1", b"p:2": b"x"}), ("s", {b"1-1": b"x"}), ("r", {b"v:": b"1 x y"})],
)
def test_merge_refuses_what_does_not_read_and_writes_nothing(store: Store, kind: str, delta: Fields) -> None:
    key = sharing.key_of(store.keys.app, "shared:s:c:x")
    with pytest.raises(ScriptRefused, match="BZARG"):
        sharing.merge(store, key, kind, delta)
    assert sharing.state(store, key) == {}


def test_publish_repeated_is_stored_once(store: Store) -> None:
    key = sharing.key_of(store.keys.app, "chan:c")
    first = publish(store, key, 1, b"a")
    assert [publish(store, key, 1, b"a"), publish(store, key, 1, b"a")] == [first, first]
    second = publish(store, key, 2, b"b")
    assert publish(store, key, 1, b"other", writer="v") not in (first, second)
    rows = sharing.entries(store.connection(), key, "0-0")
    assert [(row.origin, row.payload) for row in rows] == [("w-1", b"a"), ("w-2", b"b"), ("v-1", b"other")]
    assert sharing.newest(store, key) == rows[-1].position
    with pytest.raises(ScriptRefused, match="BZARG n=0"):
        publish(store, key, 0, b"")


def test_what_is_older_than_its_retention_goes_and_says_up_to_where(store: Store) -> None:
    key = sharing.key_of(store.keys.app, "chan:c")
    for n in range(1, 4):
        store.connection().call("XADD", key, f"{n}000-0", "o", f"old-{n}", "v", "x")
    assert sharing.dropped(store, key) == "0-0"
    publish(store, key, 1, b"now", retention_ms=60_000)
    assert [row.origin for row in sharing.entries(store.connection(), key, "0-0")] == ["w-1"]
    assert sharing.dropped(store, key) == "3000-0"
