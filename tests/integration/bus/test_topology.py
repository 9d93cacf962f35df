import logging
from dataclasses import replace
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, ConsumerInfo, RetentionPolicy, StorageType, StreamConfig

from shared.bus import EVENTS, STREAMS, ConsumerSpec, StreamSpec, TopologyError, ensure_consumer, ensure_streams

LAB = ConsumerSpec("EVENTS", "lab", ("edgeloop.evt.*.a.b.v1", "edgeloop.evt.*.c.d.v1"))


async def test_what_is_as_wanted_is_left_alone(nc: Client, caplog: pytest.LogCaptureFixture) -> None:
    js = nc.jetstream()
    await ensure_consumer(js, LAB)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="shared.bus"):
        await ensure_streams(js)
        await ensure_consumer(js, LAB)
    assert caplog.messages == []


async def test_the_streams_on_the_server_are_what_the_code_says(nc: Client) -> None:
    for spec in STREAMS:
        config = (await nc.jetstream().stream_info(spec.name)).config
        assert config.subjects == list(spec.subjects)
        assert config.duplicate_window == spec.duplicate_window_s
        assert config.retention == spec.retention
        assert (config.deny_delete, config.deny_purge) == (spec.deny_delete, spec.deny_purge)


async def test_a_mutable_difference_of_a_stream_is_mended_and_logged(
    nc: Client, caplog: pytest.LogCaptureFixture
) -> None:
    js = nc.jetstream()
    await ensure_streams(js, [replace(EVENTS, max_age_s=9000)])
    assert (await js.stream_info("EVENTS")).config.max_age == 9000
    assert "changed stream EVENTS: max_age from 2592000.0 to 9000" in caplog.text


async def test_an_operators_own_settings_survive_a_change(nc: Client) -> None:
    js = nc.jetstream()
    config = (await js.stream_info("EVENTS")).config
    await js.update_stream(config.evolve(max_msgs_per_subject=77))
    await ensure_streams(js, [replace(EVENTS, max_age_s=9000)])
    assert (await js.stream_info("EVENTS")).config.max_msgs_per_subject == 77


async def test_an_immutable_difference_of_a_stream_is_refused_by_name(nc: Client) -> None:
    wanted = replace(EVENTS, retention=RetentionPolicy.WORK_QUEUE)
    with pytest.raises(TopologyError, match=r"stream EVENTS: retention is 'limits', wanted 'workqueue'.*Next: "):
        await ensure_streams(nc.jetstream(), [wanted])


async def test_a_stream_in_memory_is_refused_because_it_would_lose_everything(nc: Client) -> None:
    await nc.jetstream().add_stream(StreamConfig(name="M", subjects=["m"], storage=StorageType.MEMORY))
    with pytest.raises(TopologyError, match="stream M: storage is 'memory', wanted 'file'"):
        await ensure_streams(nc.jetstream(), [StreamSpec("M", ("m",), "in memory")])


async def test_a_mutable_difference_of_a_consumer_is_mended_and_logged(
    nc: Client, caplog: pytest.LogCaptureFixture
) -> None:
    js = nc.jetstream()
    await ensure_consumer(js, LAB)
    await ensure_consumer(js, replace(LAB, filter_subjects=("edgeloop.evt.*.a.b.v1",), ack_wait_s=7))
    config = (await js.consumer_info("EVENTS", "lab")).config
    assert config.ack_wait == 7
    assert (config.filter_subjects or [config.filter_subject]) == ["edgeloop.evt.*.a.b.v1"]
    assert "changed consumer lab of stream EVENTS: filter_subjects" in caplog.text
    await ensure_consumer(js, LAB)
    assert sorted((await js.consumer_info("EVENTS", "lab")).config.filter_subjects or []) == list(LAB.filter_subjects)


async def test_an_immutable_difference_of_a_consumer_is_refused_by_name(nc: Client) -> None:
    js = nc.jetstream()
    await ensure_consumer(js, replace(LAB, only_new=True))
    with pytest.raises(TopologyError, match="consumer lab of stream EVENTS: deliver_policy is 'new', wanted 'all'"):
        await ensure_consumer(js, LAB)


async def test_a_consumer_made_by_another_hand_is_compared_too(nc: Client) -> None:
    js = nc.jetstream()
    await js.add_consumer("EVENTS", ConsumerConfig(name="lab", durable_name="lab", max_deliver=3))
    await ensure_consumer(js, LAB)
    assert (await js.consumer_info("EVENTS", "lab")).config.max_deliver == -1


async def test_a_server_that_ignores_what_it_does_not_know_is_found_out(nc: Client) -> None:
    class OldServer(JetStreamContext):
        """Answers as 2.9 does: without the field, and without an error."""

        async def add_consumer(self, *arguments: Any, **named: Any) -> ConsumerInfo:
            info: ConsumerInfo = await super().add_consumer(*arguments, **named)
            info.config.filter_subjects = None
            return info

    with pytest.raises(TopologyError, match=r"consumer lab of stream EVENTS: the server answered filter_subjects \[\]"):
        await ensure_consumer(OldServer(nc), LAB)


async def test_a_consumer_without_its_stream_says_which(nc: Client) -> None:
    with pytest.raises(TopologyError, match="stream NOWHERE, which consumer lab reads, does not exist"):
        await ensure_consumer(nc.jetstream(), replace(LAB, stream="NOWHERE"))


async def test_two_consumers_of_the_same_commands_are_refused(nc: Client) -> None:
    js = nc.jetstream()
    await ensure_consumer(js, ConsumerSpec("COMMANDS", "one", ("edgeloop.cmd.gateway.>",)))
    with pytest.raises(TopologyError, match=r"refused consumer two of stream COMMANDS.*one consumer only"):
        await ensure_consumer(js, ConsumerSpec("COMMANDS", "two", ("edgeloop.cmd.gateway.>",)))
