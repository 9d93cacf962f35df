"""Same key, same order: whatever fails, however many run at once."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.bus import (
    DONE,
    Consumer,
    ConsumerSpec,
    DeadLetter,
    Delivery,
    EmbeddedServer,
    Outcome,
    Publisher,
    RetryLater,
    _concurrent,
    connect,
    ensure_consumer,
    ensure_streams,
)
from tests.integration.bus.bench import Bench, running
from tests.support import eventually

MAX_ATTEMPTS = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(Path(tmp_path_factory.mktemp("nats"))) as running_server:
        yield running_server


# For each message: its key, and what its first attempts end with.
PLANS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.lists(st.sampled_from(["retry", "raise", "dead"]), max_size=5)),
    min_size=1,
    max_size=20,
)


@settings(max_examples=25)
@given(plan=PLANS, concurrency=st.integers(min_value=1, max_value=5))
def test_keys_keep_their_order_under_concurrency_retries_and_failures(
    server: EmbeddedServer, plan: list[tuple[str, list[str]]], concurrency: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_concurrent, "backoff", lambda _failures, **_: 0.005)
        asyncio.run(follow(server.url, plan, concurrency))


async def follow(url: str, plan: list[tuple[str, list[str]]], concurrency: int) -> None:
    client = await connect(url, name="test")
    js = client.jetstream()
    await ensure_streams(js)
    await js.purge_stream("EVENTS")
    first = (await js.stream_info("EVENTS")).state.last_seq
    name = f"ordered-{first}-{id(plan)}"
    spec = ConsumerSpec("EVENTS", name, ("edgeloop.evt.>",), ack_wait_s=5, max_attempts=MAX_ATTEMPTS)
    await ensure_consumer(js, spec)
    remaining = {index: list(outcomes) for index, (_, outcomes) in enumerate(plan)}
    begun: dict[str, list[int]] = defaultdict(list)
    ended: dict[str, list[int]] = defaultdict(list)
    running_now: set[str] = set()
    most = 0

    async def handle(delivery: Delivery) -> Outcome:
        nonlocal most
        key, index = delivery.subject.split(".")[2], int(delivery.data)
        assert key not in running_now, "two of one key at once"
        running_now.add(key)
        most = max(most, len(running_now))
        begun[key].append(index)
        await asyncio.sleep(0.001)
        running_now.discard(key)
        match remaining[index].pop(0) if remaining[index] else "done":
            case "retry" if delivery.attempt < MAX_ATTEMPTS:
                return RetryLater(0.01, "planned")
            case "raise":
                raise ConnectionError("planned")
            case "retry" | "dead":
                ended[key].append(index)
                return DeadLetter("planned")
        ended[key].append(index)
        return DONE

    messages = [
        (f"edgeloop.evt.{key}.x.y.v1", str(index).encode(), f"{name}-{index}") for index, (key, _) in enumerate(plan)
    ]
    await Publisher(client, "tests").publish_many(messages)
    consumer = Consumer(client, spec)
    run = consumer.run_concurrently(handle, concurrency=concurrency, key=lambda each: each.subject.split(".")[2])
    async with running(consumer, run):
        await eventually(lambda: sum(map(len, ended.values())) == len(plan), within_s=60)
    assert most <= concurrency
    for key in {key for key, _ in plan}:
        expected = [index for index, (each, _) in enumerate(plan) if each == key]
        assert ended[key] == expected, "a key ended out of order"
        assert list(dict.fromkeys(begun[key])) == expected
        assert begun[key] == sorted(begun[key]), "a successor began before its predecessor had ended"
    await js.delete_consumer("EVENTS", name)
    await client.close()


async def test_batches_follow_the_stream_and_do_not_wait_for_a_retry(bench: Bench) -> None:
    async def process(deliveries: list[Delivery]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for delivery in deliveries:
            if delivery.data == b"3" and delivery.attempt == 1:
                outcomes.append(RetryLater(0.3, "planned"))
            else:
                bench.handled.append(delivery.data.decode())
                outcomes.append(DONE)
        return outcomes

    consumer = await bench.consumer()
    await bench.publish(*map(str, range(100)))
    async with running(consumer, consumer.run_batches(process)):  # type: ignore[arg-type]
        await bench.settled()
    assert bench.handled == [str(number) for number in range(100) if number != 3] + ["3"]


async def test_a_busy_key_does_not_hold_up_the_others(bench: Bench) -> None:
    release = asyncio.Event()

    async def handle(delivery: Delivery) -> Outcome:
        if delivery.subject.split(".")[2] == "slow":
            await release.wait()
        bench.handled.append(delivery.data.decode())
        return DONE

    consumer = await bench.consumer()
    await bench.publish(*[f"slow-{n}" for n in range(10)], subject="edgeloop.evt.slow.a.b.v1")
    await bench.publish(*[f"fast-{n}" for n in range(10)], subject="edgeloop.evt.fast.a.b.v1")
    run = consumer.run_concurrently(handle, concurrency=2, key=lambda each: each.subject.split(".")[2])
    async with running(consumer, run):
        await eventually(lambda: bench.handled == [f"fast-{n}" for n in range(10)])
        release.set()
        await bench.settled()
    assert bench.handled[10:] == [f"slow-{n}" for n in range(10)]
