"""Names, dots, records, histograms and policies."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blazing_nb.core.dot import OperationId, Range
from blazing_nb.core.metrics import bounds, bucket, difference, merge, quantile
from blazing_nb.core.name import check_name
from blazing_nb.core.outcome import decode_outcome, encode_body
from blazing_nb.core.policy import backoff_ms, next_batch
from blazing_nb.core.status import LETTER, Status
from blazing_nb.errors import InvalidName, InvalidOperationId, PayloadInvalid


def is_name(text: str) -> bool:
    try:
        return bool(check_name(text, "name"))
    except InvalidName:
        return False


names = st.text(min_size=1, max_size=16).filter(is_name)
numbers = st.integers(0, 2**53)
histograms = st.dictionaries(st.integers(0, 120), st.integers(1, 1000), max_size=20)


@given(names, st.sampled_from("hnld"), names, numbers, numbers)
def test_an_operations_id_survives_as_text(step: str, prio: str, node: str, incarnation: int, counter: int) -> None:
    op = OperationId(step, prio, node, incarnation, counter)
    assert OperationId.parse(op.text) == op
    assert op.text == f"{op.segment}:{op.entry}"


@given(st.text(max_size=40))
def test_other_text_is_no_operations_id(text: str) -> None:
    try:
        assert OperationId.parse(text).text == text
    except InvalidOperationId:
        return


@pytest.mark.parametrize(
    "text", ["", "a", "a:n:b", "a:n:b:1", "a:n:b:1-", "a:n:b:-1", "a:n:b:1-x", ":n:b:1-2", "a:n:b:c:1-2"]
)
def test_a_malformed_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidOperationId):
        OperationId.parse(text)


def test_a_range_is_its_ids() -> None:
    ids = list(Range("s", "n", "x", 7, 3, 6).ids())
    assert [op.counter for op in ids] == [3, 4, 5, 6]
    assert len(Range("s", "n", "x", 7, 3, 6)) == 4


@given(st.text(max_size=70))
def test_a_name_never_breaks_a_key(text: str) -> None:
    if is_name(text):
        assert not set(text) & set(":{}|\0\n\r\x1b")
        assert 1 <= len(text.encode()) <= 64
        assert not text.startswith("@")


@given(
    st.sampled_from(sorted(LETTER)),
    numbers,
    st.integers(1, 9),
    numbers,
    numbers,
    numbers,
    numbers,
    st.integers(1, 99),
    st.binary(),
)
def test_a_record_keeps_status_token_times_and_payload(
    letter: str, worker: int, claim: int, enq: int, clm: int, queued: int, run: int, attempt: int, payload: bytes
) -> None:
    record = f"{letter}{worker}-{claim};".encode() + encode_body(enq, clm, queued, run, attempt, payload)
    outcome = decode_outcome(record)
    assert outcome.status is LETTER[letter]
    assert outcome.status.is_final
    assert (outcome.worker, outcome.claim, outcome.attempt, outcome.payload) == (worker, claim, attempt, payload)
    assert (outcome.enqueued_ms, outcome.claimed_ms, outcome.queued_us, outcome.run_us) == (enq, clm, queued, run)


@given(st.binary(max_size=80))
def test_other_bytes_are_no_record(data: bytes) -> None:
    try:
        decode_outcome(data)
    except PayloadInvalid:
        return


def test_live_statuses_are_not_final() -> None:
    assert [s for s in Status if not s.is_final] == [
        Status.PENDING,
        Status.SCHEDULED,
        Status.CLAIMED,
        Status.RUNNING,
        Status.RETRYING,
    ]


@given(st.integers(1, 10**12))
def test_a_bucket_holds_what_it_says(us: int) -> None:
    low, high = bounds(bucket(us))
    assert low * (1 - 1e-6) <= us / 1e6 <= high * (1 + 1e-6)


def test_lua_and_python_count_into_the_same_bucket() -> None:
    # The formula of store/lua/_stats.lua.
    draw = random.Random(7)
    for us in [1, 2, 3, 4, 1023, 1024, *(draw.randrange(1, 10**9) for _ in range(20_000))]:
        assert bucket(us) == math.floor(4 * math.log(us) / 0.69314718055994530942 + 1e-9)


@given(histograms.filter(bool), st.floats(0.01, 1))
def test_a_quantile_lies_within_what_was_seen(histogram: dict[int, int], q: float) -> None:
    assert bounds(min(histogram))[0] <= quantile(histogram, q) <= bounds(max(histogram))[1]


def test_a_quantile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(quantile({}, 0.5))


@given(histograms, histograms)
def test_a_difference_undoes_a_merge(a: dict[int, int], b: dict[int, int]) -> None:
    assert difference(merge(a, b), a) == b
    assert merge(a, b) == merge(b, a)


@given(st.integers(1, 200), st.integers(1, 10**5), st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_back_off_stays_within_its_bounds(attempt: int, base: int, cap: int, draw: float) -> None:
    assert 0 <= backoff_ms(attempt, base, cap, draw) <= min(cap, base * 2 ** min(attempt - 1, 62))


@given(st.integers(1, 256), st.floats(0, 1e5))
def test_a_batch_stays_within_its_bounds_and_moves_the_right_way(size: int, took: float) -> None:
    after = next_batch(size, took)
    assert 1 <= after <= 256
    assert (after >= size) if took < 5 else (after <= size)
