"""Outages, long work, and the end of a process: nothing is lost, nothing is left."""

import asyncio
from collections.abc import Sequence

import pytest
from nats.aio.client import Client

from shared.bus import (
    DONE,
    BusClosedError,
    Consumer,
    ConsumerGoneError,
    DeadLetters,
    Delivery,
    EmbeddedServer,
    Outcome,
    RetryLater,
    _pull,
)
from tests.integration.bus.bench import NOT_LOST_S, Bench, running
from tests.support import eventually


async def test_long_work_keeps_its_message_beyond_ack_wait(bench: Bench) -> None:
    begun = 0

    async def handle(_delivery: Delivery) -> Outcome:
        nonlocal begun
        begun += 1
        await asyncio.sleep(1.5)
        return DONE

    consumer = await bench.consumer(ack_wait_s=0.4)
    await bench.publish("long")
    async with running(consumer, consumer.run_concurrently(handle, concurrency=3)):
        await bench.settled()
    assert begun == 1


async def test_a_slow_batch_keeps_itself_and_what_was_prefetched(bench: Bench) -> None:
    async def process(deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        await asyncio.sleep(0.75)
        return await bench.done_with_all(deliveries)

    consumer = await bench.consumer(ack_wait_s=1)
    await bench.publish(*map(str, range(60)))
    async with running(consumer, consumer.run_batches(process)):
        await bench.settled()
    assert bench.handled == [str(number) for number in range(60)]


async def test_a_key_that_waits_for_its_turn_is_not_delivered_again(bench: Bench) -> None:
    async def handle(delivery: Delivery) -> Outcome:
        await asyncio.sleep(0.4)
        bench.handled.append(delivery.data.decode())
        return DONE

    consumer = await bench.consumer(ack_wait_s=0.4)
    await bench.publish(*"abcd")
    async with running(consumer, consumer.run_concurrently(handle, concurrency=4, key=lambda _: "same")):
        await bench.settled()
    assert bench.handled == list("abcd")


async def test_no_more_than_the_allowed_number_runs_at_once(bench: Bench) -> None:
    now = most = 0

    async def handle(_delivery: Delivery) -> Outcome:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        return DONE

    consumer = await bench.consumer()
    await bench.publish(*map(str, range(40)))
    async with running(consumer, consumer.run_concurrently(handle, concurrency=3)):
        await bench.settled()
    assert most == 3


async def test_long_work_is_shared_between_replicas(bench: Bench, nc: Client) -> None:
    workers: list[str] = []

    async def handle(name: str) -> Outcome:
        workers.append(name)
        await asyncio.sleep(0.2)
        return DONE

    first = await bench.consumer()
    second = Consumer(nc, bench.spec)
    async with (
        running(first, first.run_concurrently(lambda _: handle("first"), concurrency=1)),
        running(second, second.run_concurrently(lambda _: handle("second"), concurrency=1)),
    ):
        # What this connection sends arrives in order: both have asked before anything is there to get.
        await eventually(lambda: first._pull._requested and second._pull._requested)
        await bench.publish(*map(str, range(6)))
        await bench.settled()
    assert 2 <= workers.count("first") <= 4


@pytest.mark.parametrize("mode", ["batches", "concurrently"])
async def test_a_server_killed_in_the_middle_loses_nothing(
    bench: Bench, nats_server: EmbeddedServer, mode: str
) -> None:
    async def handle(delivery: Delivery) -> Outcome:
        await asyncio.sleep(0.0002)
        bench.handled.append(delivery.data.decode())
        return DONE

    async def process(deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        return [await handle(delivery) for delivery in deliveries]

    consumer = await bench.consumer(ack_wait_s=1)
    total = 4000
    await bench.publish(*map(str, range(total)))
    run = (
        consumer.run_batches(process)
        if mode == "batches"
        else consumer.run_concurrently(handle, concurrency=8, key=lambda delivery: str(int(delivery.data) % 16))
    )
    async with running(consumer, run):
        for threshold in (500, 2000):
            await eventually(lambda threshold=threshold: len(bench.handled) > threshold)  # type: ignore[misc]
            nats_server.kill()
            await asyncio.sleep(0.3)
            nats_server.start()
        await eventually(lambda: len(set(bench.handled)) == total)
        await bench.settled()


async def test_work_across_an_outage_longer_than_ack_wait_is_not_done_twice_here(
    bench: Bench, nats_server: EmbeddedServer
) -> None:
    begun: list[str] = []
    outage_is_over = asyncio.Event()

    async def handle(delivery: Delivery) -> Outcome:
        begun.append(delivery.data.decode())
        await outage_is_over.wait()
        await asyncio.sleep(1)
        return DONE

    consumer = await bench.consumer(ack_wait_s=0.5)
    await bench.publish("build")
    async with running(consumer, consumer.run_concurrently(handle, concurrency=2)):
        await eventually(lambda: begun == ["build"])
        nats_server.kill()
        await asyncio.sleep(1)
        nats_server.start()
        outage_is_over.set()
        await asyncio.sleep(1.5)
        await bench.settled()
    assert begun == ["build"]


async def test_neighbours_of_a_message_that_kills_its_process_are_spared(bench: Bench, nc: Client) -> None:
    """Crashes are connections that end without an answer for anything in hand."""
    await bench.consumer(ack_wait_s=0.3, max_attempts=3)
    await bench.publish(*[f"before-{n}" for n in range(20)], "killer", *[f"after-{n}" for n in range(20)])

    for _ in range(30):
        died = asyncio.Event()

        async def process(deliveries: Sequence[Delivery], died: asyncio.Event = died) -> Sequence[Outcome]:
            if any(delivery.data == b"killer" for delivery in deliveries):
                died.set()
                await asyncio.Event().wait()
            return await bench.done_with_all(deliveries)

        consumer = Consumer(nc, bench.spec)
        run = asyncio.create_task(consumer.run_batches(process))
        waiting = asyncio.create_task(died.wait())
        settled = asyncio.create_task(bench.settled())
        await asyncio.wait([waiting, settled], return_when=asyncio.FIRST_COMPLETED)
        over = settled.done()
        if over:
            await consumer.drain()
        else:
            await crash(consumer, run)
        for task in (waiting, settled):
            task.cancel()
        await asyncio.gather(run, waiting, settled, return_exceptions=True)
        if over:
            break
        await asyncio.sleep(0.35)
    assert [letter.data for letter in await DeadLetters(nc).list()] == [b"killer"]
    assert len(set(bench.handled)) == 40


async def test_long_work_that_was_in_hand_at_several_crashes_runs_alone(bench: Bench, nc: Client) -> None:
    await bench.consumer(ack_wait_s=0.2, max_attempts=4)
    await bench.publish(*"abcd")
    subscription = await nc.jetstream().pull_subscribe_bind("lab", "EVENTS")
    for _ in range(2):
        left = 4
        while left:
            left -= len(await subscription.fetch(left, timeout=5))
    now = most = 0

    async def handle(delivery: Delivery) -> Outcome:
        nonlocal now, most
        assert delivery.attempt == (1 if delivery.data == b"fresh" else 3)
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1
        bench.handled.append(delivery.data.decode())
        return DONE

    consumer = Consumer(nc, bench.spec)
    async with running(consumer, consumer.run_concurrently(handle, concurrency=4)):
        await bench.settled()
        assert most == 1
        await bench.publish("fresh")
        await bench.settled()
    assert sorted(bench.handled) == ["a", "b", "c", "d", "fresh"]


async def crash(consumer: Consumer, run: asyncio.Task[None]) -> None:
    """End a run as SIGKILL would: nothing is said to the server."""

    async def say_nothing(*_: object) -> None:
        pass

    consumer._settler.hand_back = say_nothing  # type: ignore[method-assign, assignment]
    run.cancel()
    await asyncio.wait([run])


async def test_drain_finishes_what_is_in_hand_and_gives_back_the_rest(bench: Bench, nc: Client) -> None:
    async def process(deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        await asyncio.sleep(0.1)
        return await bench.done_with_all(deliveries)

    await bench.consumer(ack_wait_s=NOT_LOST_S)
    consumer = Consumer(nc, bench.spec, batch=16)
    await bench.publish(*map(str, range(200)))
    async with running(consumer, consumer.run_batches(process)):
        await eventually(lambda: len(bench.handled) > 5)
    info = await bench.info()
    handled = len(bench.handled)
    assert 5 < handled < 200
    assert info.ack_floor is not None
    assert info.ack_floor.stream_seq == handled
    # Others get the rest at once, long before ack_wait.
    other = Consumer(nc, bench.spec)
    async with running(other, other.run_batches(bench.done_with_all)):
        await bench.settled()
    assert sorted(bench.handled, key=int) == [str(number) for number in range(200)]


async def test_drain_interrupts_what_takes_too_long_and_gives_it_back(bench: Bench) -> None:
    begun: list[int] = []

    async def handle(delivery: Delivery) -> Outcome:
        begun.append(delivery.attempt)
        await asyncio.sleep(60)
        return DONE

    consumer = await bench.consumer(ack_wait_s=NOT_LOST_S)
    await bench.publish("long")
    run = asyncio.create_task(consumer.run_concurrently(handle, concurrency=1))
    await eventually(lambda: begun == [1])
    await consumer.drain(deadline_s=0.2)
    await run
    again = await bench.consumer()
    async with running(again, again.run_batches(bench.done_with_all)):
        await bench.settled()
    assert bench.handled == ["long"]


async def test_drain_gives_up_an_endless_infrastructure_error(bench: Bench) -> None:
    failed = asyncio.Event()

    async def process(_deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        failed.set()
        raise ConnectionError("database down")

    consumer = await bench.consumer(ack_wait_s=NOT_LOST_S)
    await bench.publish("x")
    run = asyncio.create_task(consumer.run_batches(process))
    await failed.wait()
    await consumer.drain()
    await run
    other = await bench.consumer()
    async with running(other, other.run_batches(bench.done_with_all)):
        await bench.settled()
    assert bench.handled == ["x"]


async def test_drain_gives_back_a_held_key_and_its_successors(bench: Bench) -> None:
    held = asyncio.Event()

    async def handle(_delivery: Delivery) -> Outcome:
        held.set()
        return RetryLater(60, "later")

    consumer = await bench.consumer(ack_wait_s=NOT_LOST_S)
    await bench.publish(*"abc")
    run = asyncio.create_task(consumer.run_concurrently(handle, concurrency=2, key=lambda _: "same"))
    await held.wait()
    await consumer.drain()
    await run
    again = await bench.consumer()
    async with running(again, again.run_batches(bench.done_with_all)):
        await bench.settled()
    assert sorted(bench.handled) == list("abc")


async def test_a_closed_connection_ends_the_run_instead_of_spinning(bench: Bench, nc: Client) -> None:
    consumer = await bench.consumer()
    run = asyncio.create_task(consumer.run_batches(bench.done_with_all))
    await asyncio.sleep(0.1)
    await nc.close()
    with pytest.raises(BusClosedError, match=r"consumer lab of stream EVENTS: the connection .* closed for good"):
        await asyncio.wait_for(run, 30)


async def test_a_deleted_consumer_ends_the_run_by_name(bench: Bench, nc: Client) -> None:
    consumer = await bench.consumer()
    run = asyncio.create_task(consumer.run_batches(bench.done_with_all))
    await asyncio.sleep(0.1)
    await nc.jetstream().delete_consumer("EVENTS", "lab")
    with pytest.raises(ConsumerGoneError, match=r"consumer lab of stream EVENTS is gone.*Next: restart"):
        await asyncio.wait_for(run, 30)


async def test_a_consumer_that_never_was_ends_the_run_too(
    bench: Bench, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pull, "GONE_AFTER_S", 0.3)
    with pytest.raises(ConsumerGoneError, match=r"no consumer answered for 0\.3 s"):
        await asyncio.wait_for(Consumer(nc, bench.spec).run_batches(bench.done_with_all), 30)


async def test_a_request_that_ran_out_is_renewed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pull, "EXPIRES_S", 0.3)
    monkeypatch.setattr(_pull, "HEARTBEAT_S", 0.1)
    consumer = await bench.consumer()
    async with running(consumer, consumer.run_batches(bench.done_with_all)):
        for body in "abc":
            await asyncio.sleep(0.7)
            await bench.publish(body)
        await bench.settled()
    assert bench.handled == list("abc")


async def test_an_idle_run_notices_that_its_request_is_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without heartbeats nobody could tell a quiet stream from a forgotten request."""
    monkeypatch.setattr(_pull, "HEARTBEAT_S", 0.2)
    consumer = await bench.consumer()
    async with running(consumer, consumer.run_batches(bench.done_with_all)):
        await asyncio.sleep(0.3)
        consumer._pull._inbox, real = "_INBOX.elsewhere", consumer._pull._inbox
        consumer._pull._forget_requests()
        await eventually(lambda: consumer._pull._requested > 0)  # asked from an inbox that nobody reads
        await bench.publish("lost on its way")
        consumer._pull._inbox = real
        await eventually(lambda: bench.handled == ["lost on its way"])
