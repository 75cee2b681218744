"""Token buckets, and that no honest board ever reaches the defaults."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RemoteProtocolError
from shared.protocol.logprobs import MAX_PROMPT_LOGPROB_BYTES
from shared.protocol.messages import MAX_MESSAGE_BYTES
from tests.support.ends.limits import make_device_limits
from verifier.server.device_limits import (
    CONNECTION_COST,
    OPEN_COST,
    QUEUED_BYTES,
    DeviceUsage,
    TokenBucket,
)

MAX_STREAMS, ROUND_SECONDS = 64, 0.005


def test_a_bucket_starts_full_and_fills_with_time() -> None:
    bucket = TokenBucket(10.0, 5.0, now=0.0)
    assert bucket.take(5, 0.0)
    assert not bucket.take(1, 0.05)
    assert bucket.take(1, 0.1)
    assert not bucket.take(6, 100.0)
    assert bucket.take(5, 100.0)


def test_a_bucket_of_another_size_lacks_as_much_as_it_did() -> None:
    bucket = TokenBucket(10.0, 5.0, now=0.0)
    assert bucket.take(4, 0.0)
    bucket.resize(1.0, 9.0, now=0.1)  # a token came meanwhile: 3 are missing
    assert not bucket.take(7, 0.1)
    assert bucket.take(6, 0.1)
    assert bucket.take(1, 1.1)
    bucket.resize(1.0, 2.0, now=1.1)
    assert not bucket.take(1, 1.1)


def test_other_limits_hold_for_a_device_with_what_it_has_used() -> None:
    usage = DeviceUsage(make_device_limits(messages_per_second=10), now=0.0)
    usage.take_messages(int(usage.limits.burst_messages), 0.0)
    usage.replace_limits(make_device_limits(messages_per_second=1000), now=0.0)
    usage.take_messages(1000, 1.0)
    with pytest.raises(RemoteProtocolError, match="more than 1000 messages a second"):
        usage.take_messages(2000, 1.0)


def test_what_is_refused_costs_nothing() -> None:
    bucket = TokenBucket(1.0, 10.0, now=0.0)
    assert not bucket.take(11, 0.0)
    assert bucket.take(10, 0.0)


def test_a_clock_that_goes_back_fills_nothing() -> None:
    bucket = TokenBucket(1.0, 1.0, now=5.0)
    assert bucket.take(1, 5.0)
    assert not bucket.take(1, 4.0)


@given(
    st.floats(0.1, 1e6),
    st.floats(1, 1e6),
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 100)), max_size=50),
)
def test_no_more_is_taken_than_burst_and_rate_allow(
    per_second: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    bucket = TokenBucket(per_second, burst, now=0.0)
    now = taken = 0.0
    for seconds, amount in steps:
        now += seconds
        if bucket.take(amount, now):
            taken += amount
        assert taken <= (burst + per_second * now) * (1 + 1e-9)


def test_a_board_with_64_streams_in_rounds_of_5_ms_meets_no_limit() -> None:
    limits = make_device_limits(max_streams=MAX_STREAMS)
    usage = DeviceUsage(limits, 0.0)
    usage.take_messages(CONNECTION_COST + MAX_STREAMS * OPEN_COST, 0.0)
    usage.take_bytes(MAX_STREAMS * MAX_MESSAGE_BYTES, 0.0)
    for number in range(2000):  # ten seconds of a Draft for each verdict, half of them in two
        now = number * ROUND_SECONDS
        usage.take_messages(MAX_STREAMS * 3 // 2, now)
        usage.take_bytes(MAX_STREAMS * 1300, now)
    assert 0 == usage.num_exceeded


def test_a_link_that_stood_still_for_a_second_may_deliver_it_all() -> None:
    usage = DeviceUsage(make_device_limits(max_streams=MAX_STREAMS), 0.0)
    usage.take_messages(20_000, 10.0)
    usage.take_bytes(16 << 20, 10.0)


def test_too_many_messages_are_one_sentence() -> None:
    usage = DeviceUsage(make_device_limits(messages_per_second=10, max_streams=1), 0.0)
    usage.take_messages(int(usage.limits.burst_messages), 0.0)
    with pytest.raises(RemoteProtocolError, match=r"^more than 10 messages a second$") as caught:
        usage.take_messages(1, 0.0)
    assert "limit" == caught.value.code


def test_too_many_bytes_are_one_sentence() -> None:
    usage = DeviceUsage(make_device_limits(bytes_per_second=1000, max_streams=1), 0.0)
    usage.take_bytes(2000 + MAX_MESSAGE_BYTES, 0.0)
    with pytest.raises(RemoteProtocolError, match=r"^more than 1000 bytes a second$") as caught:
        usage.take_bytes(1, 0.0)
    assert "limit" == caught.value.code


def test_coming_back_refills_nothing() -> None:
    """The usage is the device's, not the connection's: a second one begins where it stands."""
    usage = DeviceUsage(make_device_limits(messages_per_second=10, max_streams=1), 0.0)
    usage.take_messages(CONNECTION_COST, 0.0)
    with pytest.raises(RemoteProtocolError):
        usage.take_messages(CONNECTION_COST, 1.0)


def test_context_is_limited_where_the_operator_says_so() -> None:
    DeviceUsage(make_device_limits(), 0.0).check_context(1 << 40)
    usage = DeviceUsage(make_device_limits(context_tokens=100), 0.0)
    usage.check_context(100)
    sentence = "^the device's streams may come to 101 tokens, beyond 100$"
    with pytest.raises(RemoteProtocolError, match=sentence) as caught:
        usage.check_context(101)
    assert "limit" == caught.value.code


def test_every_stream_may_have_its_longest_answer_queued() -> None:
    """With what the target thinks of its prompt."""
    each = 6000 + MAX_PROMPT_LOGPROB_BYTES
    assert QUEUED_BYTES + 64 * each == make_device_limits(max_streams=64).queued_bytes(6000)
