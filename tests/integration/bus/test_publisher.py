import asyncio
from uuid import uuid4

import pytest
from nats.aio.client import Client

from shared.bus import EmbeddedServer, Publisher, PublishError
from shared.events import derived_id
from shared.events.catalogue import decode
from shared.events.dataset import DatasetAdded, DatasetRole
from shared.events.envelope import Event
from shared.telemetry import TelemetryBatch

DATA = DatasetAdded.model_validate(
    {
        "project": "watch",
        "role": DatasetRole.PRODUCTION,
        "blob": {"digest": f"sha256:{'0' * 64}", "size_bytes": 1, "media_type": "x"},
        "rows": 1,
        "groups": 1,
    }
)
SUBJECT = "edgeloop.evt.watch.dataset.added.v1"


async def stored(nc: Client, stream: str = "EVENTS") -> int:
    return (await nc.jetstream().stream_info(stream)).state.messages


async def test_saying_the_same_thing_again_is_answered_as_a_duplicate(nc: Client) -> None:
    publisher = Publisher(nc, "tests")
    event_id, run_id, cause_id = uuid4(), uuid4(), uuid4()
    assert await publisher.publish(DATA, event_id=event_id, run_id=run_id, cause_id=cause_id) is False
    assert await publisher.publish(DATA, event_id=event_id, run_id=run_id, cause_id=cause_id) is True
    assert await stored(nc) == 1
    message = await nc.jetstream().get_msg("EVENTS", 1)
    event: Event[DatasetAdded] = decode(message.subject or "", message.data or b"")  # type: ignore[assignment]
    assert event.data == DATA
    assert (event.id, event.correlationid, event.causationid, event.source) == (event_id, run_id, cause_id, "tests")


async def test_many_are_stored_in_order_and_duplicates_are_told_apart(nc: Client) -> None:
    publisher = Publisher(nc, "tests")
    messages = [(SUBJECT, str(number).encode(), f"id-{number % 2500}") for number in range(3000)]
    assert await publisher.publish_many(messages) == [number >= 2500 for number in range(3000)]
    assert await stored(nc) == 2500
    for sequence in (1, 1700, 2500):
        assert (await nc.jetstream().get_msg("EVENTS", sequence)).data == str(sequence - 1).encode()


async def test_the_same_batch_of_telemetry_is_stored_once(nc: Client) -> None:
    publisher = Publisher(nc, "gateway-1")
    batch = TelemetryBatch(gateway="gateway-1", project="watch", sequence=7, sent_unix_ms=1)
    again = TelemetryBatch(gateway="gateway-1", project="watch", sequence=7, sent_unix_ms=2)
    assert await publisher.publish_telemetry(batch) is False
    assert await publisher.publish_telemetry(again) is True
    assert await stored(nc, "TELEMETRY") == 1


async def test_a_publish_into_an_outage_arrives_once_after_it(nats_server: EmbeddedServer, nc: Client) -> None:
    publisher = Publisher(nc, "tests", deadline_s=20)
    nats_server.kill()
    ids = [derived_id("outage", number) for number in range(20)]
    publishes = [asyncio.create_task(publisher.publish(DATA, event_id=each, run_id=each)) for each in ids]
    await asyncio.sleep(0.5)
    nats_server.start()
    await asyncio.gather(*publishes)
    assert await stored(nc) == 20


async def test_what_nobody_acknowledges_by_the_deadline_is_an_error(nats_server: EmbeddedServer, nc: Client) -> None:
    nats_server.kill()
    with pytest.raises(PublishError, match=r"may not be stored: .*again with the same id"):
        await Publisher(nc, "tests", deadline_s=0.5).publish_message(SUBJECT, b"", "id")


async def test_a_subject_that_no_stream_takes_is_named(nc: Client) -> None:
    with pytest.raises(PublishError, match=r"id-9 on some\.where may not be stored: no stream takes this subject"):
        await Publisher(nc, "tests", deadline_s=0.3).publish_message("some.where", b"", "id-9")


async def test_a_message_over_the_servers_limit_is_refused_before_it_is_sent(nc: Client) -> None:
    with pytest.raises(PublishError, match=r"has 1048576 bytes; 1040384 are allowed.*object store") as raised:
        await Publisher(nc, "tests").publish_message(SUBJECT, bytes(1048576), "id")
    assert raised.value.permanent
    assert nc.is_connected


async def test_a_closed_connection_is_not_waited_for(nc: Client) -> None:
    publisher = Publisher(nc, "tests")
    await nc.close()
    with pytest.raises(PublishError, match="the connection is closed"):
        await publisher.publish_message(SUBJECT, b"", "id")
