"""What the three outcomes do, in batches and one by one."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest
from nats.aio.client import Client

from shared.bus import (
    DONE,
    Consumer,
    DeadLetter,
    DeadLetterMissingError,
    DeadLetters,
    Delivery,
    Outcome,
    RetryLater,
)
from tests.integration.bus.bench import Bench, running
from tests.support import eventually

One = Callable[[Delivery], Awaitable[Outcome]]
Runner = Callable[[Consumer, One], Coroutine[Any, Any, None]]


def in_batches(consumer: Consumer, one: One) -> Coroutine[Any, Any, None]:
    async def process(deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        return [await one(delivery) for delivery in deliveries]

    return consumer.run_batches(process)


def side_by_side(consumer: Consumer, one: One) -> Coroutine[Any, Any, None]:
    return consumer.run_concurrently(one, concurrency=4)


def side_by_side_with_keys(consumer: Consumer, one: One) -> Coroutine[Any, Any, None]:
    return consumer.run_concurrently(one, concurrency=4, key=lambda delivery: delivery.subject)


@pytest.fixture(params=[in_batches, side_by_side, side_by_side_with_keys])
def runner(request: pytest.FixtureRequest) -> Runner:
    chosen: Runner = request.param
    return chosen


async def test_done_is_never_delivered_again(bench: Bench, runner: Runner) -> None:
    async def handle(delivery: Delivery) -> Outcome:
        bench.handled.append(delivery.data.decode())
        return DONE

    consumer = await bench.consumer(ack_wait_s=0.5)
    await bench.publish(*map(str, range(50)))
    async with running(consumer, runner(consumer, handle)):
        await bench.settled()
        await asyncio.sleep(0.8)
    assert sorted(bench.handled, key=int) == [str(number) for number in range(50)]


async def test_a_retry_comes_after_its_delay_and_counts(bench: Bench, runner: Runner) -> None:
    attempts: list[tuple[int, float]] = []

    async def handle(delivery: Delivery) -> Outcome:
        attempts.append((delivery.attempt, time.monotonic()))
        return DONE if delivery.attempt == 3 else RetryLater(0.3, "not yet")

    consumer = await bench.consumer()
    await bench.publish("x")
    async with running(consumer, runner(consumer, handle)):
        await bench.settled()
    assert [attempt for attempt, _ in attempts] == [1, 2, 3]
    times = [at for _, at in attempts]
    assert all(later - earlier >= 0.29 for earlier, later in itertools.pairwise(times))


async def test_a_retry_without_a_delay_does_not_spin(bench: Bench) -> None:
    times: list[float] = []

    async def handle(_delivery: Delivery) -> Outcome:
        times.append(time.monotonic())
        return DONE if len(times) == 5 else RetryLater(0, "no delay asked for")

    consumer = await bench.consumer(max_attempts=1000)
    await bench.publish("x")
    async with running(consumer, in_batches(consumer, handle)):
        await bench.settled()
    assert all(later - earlier >= 0.045 for earlier, later in itertools.pairwise(times))


async def test_the_last_attempt_makes_a_dead_letter(bench: Bench, nc: Client, runner: Runner) -> None:
    async def handle(_delivery: Delivery) -> Outcome:
        return RetryLater(0.05, "the forge is down")

    consumer = await bench.consumer(max_attempts=3)
    await bench.publish("x")
    async with running(consumer, runner(consumer, handle)):
        await bench.settled()
    (letter,) = await DeadLetters(nc).list()
    assert letter.attempts == 3
    assert letter.reason == "gave up after 3 attempts: the forge is down"


async def test_a_poison_message_blocks_nobody_and_keeps_all_that_is_needed(
    bench: Bench, nc: Client, runner: Runner
) -> None:
    async def handle(delivery: Delivery) -> Outcome:
        if delivery.data == b"poison":
            return DeadLetter("cannot be read: grün ≠ green\nsecond line")
        bench.handled.append(delivery.data.decode())
        return DONE

    consumer = await bench.consumer()
    await bench.publish("a", "poison", "b", "c")
    async with running(consumer, runner(consumer, handle)):
        await bench.settled()
    assert sorted(bench.handled) == ["a", "b", "c"]
    (letter,) = await DeadLetters(nc).list()
    assert letter.data == b"poison"
    assert letter.subject == "edgeloop.evt.watch.a.b.v1"
    assert (letter.stream, letter.stream_sequence, letter.consumer) == ("EVENTS", 2, "lab")
    assert (letter.attempts, letter.message_id) == (1, "id-1")
    assert letter.reason.startswith("cannot be read: grün ≠ green")
    assert letter.died_at is not None
    assert letter.first_seen <= letter.died_at
    message = await nc.jetstream().get_msg("DLQ", letter.sequence, direct=True)
    assert (message.headers or {})["Nats-Msg-Id"] == "dlq-EVENTS-lab-2"


async def test_a_dead_letter_replays_on_its_subject_past_the_duplicate_window(bench: Bench, nc: Client) -> None:
    mended = False

    async def handle(delivery: Delivery) -> Outcome:
        if not mended:
            return DeadLetter("a bug")
        bench.handled.append(f"{delivery.subject} {delivery.data.decode()} {delivery.message_id}")
        return DONE

    consumer = await bench.consumer()
    letters = DeadLetters(nc)
    await bench.publish("x")
    async with running(consumer, in_batches(consumer, handle)):
        await bench.settled()
        (letter,) = await letters.list()
        mended = True
        assert await letters.replay(letter.sequence) == letter
        await eventually(lambda: bench.handled == ["edgeloop.evt.watch.a.b.v1 x replay-1"])
    assert await letters.list() == []
    with pytest.raises(DeadLetterMissingError, match=r"there is no dead letter 1:.*Next: `edgeloop dlq ls`"):
        await letters.replay(letter.sequence)


async def test_dead_letters_are_listed_by_stream_and_consumer_and_dropped(bench: Bench, nc: Client) -> None:
    async def handle(_delivery: Delivery) -> Outcome:
        return DeadLetter("never")

    letters = DeadLetters(nc)
    for name in ("lab", "rollout"):
        consumer = await bench.consumer(name=name)
        if name == "lab":
            await bench.publish("x", "y")
        async with running(consumer, in_batches(consumer, handle)):
            await bench.settled()
    assert [letter.data for letter in await letters.list(consumer="rollout")] == [b"x", b"y"]
    assert len(await letters.list(stream="EVENTS")) == 4
    assert await letters.list(stream="COMMANDS") == []
    first, second = await letters.list(limit=2)
    assert [letter.sequence for letter in await letters.list(after=second.sequence)] == [3, 4]
    assert await letters.get(first.sequence) == first
    await letters.drop(first.sequence)
    assert len(await letters.list()) == 3
    with pytest.raises(DeadLetterMissingError):
        await letters.get(first.sequence)
    with pytest.raises(DeadLetterMissingError):
        await letters.drop(first.sequence)


async def test_what_was_delivered_too_often_dies_before_it_is_handled(bench: Bench, nc: Client, runner: Runner) -> None:
    """As a message does that kills its process: deliveries without any answer."""
    consumer = await bench.consumer(ack_wait_s=0.2, max_attempts=2)
    await bench.publish("killer")
    subscription = await nc.jetstream().pull_subscribe_bind("lab", "EVENTS")
    for _ in range(2):
        (message,) = await subscription.fetch(1, timeout=5)
        assert message.data == b"killer"
    await bench.publish("innocent")
    told: list[tuple[str, str]] = []

    async def handle(delivery: Delivery) -> Outcome:
        bench.handled.append(delivery.data.decode())
        return DONE

    consumer = Consumer(nc, bench.spec, on_settled=lambda d, o: told.append((d.data.decode(), type(o).__name__)))
    async with running(consumer, runner(consumer, handle)):
        await bench.settled()
    assert bench.handled == ["innocent"]
    (letter,) = await DeadLetters(nc).list()
    assert letter.data == b"killer"
    assert letter.reason.startswith("delivered 3 times, 2 are allowed")
    assert sorted(told) == [("innocent", "Done"), ("killer", "DeadLetter")]


async def test_an_infrastructure_error_loses_nothing_and_is_tried_in_place(bench: Bench, runner: Runner) -> None:
    failures = 3

    async def handle(delivery: Delivery) -> Outcome:
        nonlocal failures
        if failures:
            failures -= 1
            raise ConnectionError("database down")
        bench.handled.append(f"{delivery.data.decode()} {delivery.attempt}")
        return DONE

    consumer = await bench.consumer(ack_wait_s=0.5)
    await bench.publish("x", "y")
    async with running(consumer, runner(consumer, handle)):
        await bench.settled()
    assert sorted(bench.handled) == ["x 1", "y 1"]


async def test_a_process_that_answers_for_too_few_deliveries_fails_loudly(bench: Bench) -> None:
    async def process(_deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        return []

    consumer = await bench.consumer()
    await bench.publish("x")
    with pytest.raises(RuntimeError, match="lab: 1 deliveries got 0 outcomes"):
        await consumer.run_batches(process)
