"""The service's cache of stages, in a real object store: whole or not there, bounded, and no part of a release."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js.errors import NotFoundError
from prometheus_client import REGISTRY

from services.artifact_builder import store as builds
from services.artifact_builder.caching.blobs import BUCKET, BlobCache
from services.artifact_builder.caching.eviction import Bounds, used_bytes
from shared.store import Blobs, Store

SMALL = Bounds(maximum_bytes=300, maximum_age_s=1000)
MakeCache = Callable[[Bounds], BlobCache]


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now_s = 5000.0

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_cache(nc: Client, tmp_path: Path, clock: Clock) -> Iterator[MakeCache]:
    """Return what makes replicas: each with a connection of its own to one database and one object store."""
    with ExitStack() as stack:

        def make(bounds: Bounds) -> BlobCache:
            store = stack.enter_context(closing(Store(f"sqlite:///{tmp_path}/builder.db", builds.METADATA)))
            cache = BlobCache.beside(Blobs(nc.jetstream()), store, bounds)
            return BlobCache(store, cache.blobs, bounds, clock)

        yield make


async def put(cache: BlobCache, key: str, *contents: bytes) -> None:
    files = {f"{index}.npz": content for index, content in enumerate(contents)}
    await cache.put(key, files, stage="data", project="gestures")


async def bytes_of(nc: Client, bucket: str) -> int:
    """Return what a bucket really takes, without what names things."""
    stream = f"OBJ_{bucket}"
    subjects = (await nc.jetstream().stream_info(stream, subjects_filter=f"$O.{bucket}.>")).state.subjects or {}
    chunks = [subject for subject in subjects if ".C." in subject]
    return sum([len((await nc.jetstream().get_last_msg(stream, subject)).data or b"") for subject in chunks])


async def test_the_cache_gives_what_was_put_and_forgets_what_was_lost(nc: Client, make_cache: MakeCache) -> None:
    cache = make_cache(Bounds())
    assert await cache.get("k") is None
    files = {"raw/train.npz": b"1", "train": b"2", "empty": b""}
    await cache.put("k", files, stage="data", project="gestures")
    await cache.put("k", files, stage="data", project="gestures")
    assert await cache.get("k") == files
    bucket = await nc.jetstream().object_store(BUCKET)
    await bucket.delete((await cache.blobs.put(b"2", media_type="x")).digest)
    assert await cache.get("k") is None
    async with cache.store.transaction() as tx:
        assert builds.cached_stages(tx) == []
    await cache.put("k", files, stage="data", project="gestures")
    assert await cache.get("k") == files


async def test_what_was_not_used_for_longest_goes_first_and_what_others_share_stays(
    nc: Client, make_cache: MakeCache
) -> None:
    cache = make_cache(SMALL)
    shared = b"s" * 100
    await put(cache, "old", shared, b"o" * 100)
    await put(cache, "used", b"u" * 90)
    await put(cache, "new", shared, b"n" * 100)
    await cache.get("old")
    await cache.make_room()
    assert await cache.get("used") is None
    assert await cache.get("new") == {"0.npz": shared, "1.npz": b"n" * 100}
    await put(cache, "newest", b"m" * 50)
    await cache.make_room()
    assert await cache.get("old") is None
    assert await cache.get("new") == {"0.npz": shared, "1.npz": b"n" * 100}
    assert await bytes_of(nc, BUCKET) == 250
    assert REGISTRY.get_sample_value("edgeloop_stage_cache_bytes") == 250


async def test_a_release_of_the_same_bytes_loses_nothing(nc: Client, make_cache: MakeCache) -> None:
    cache, releases = make_cache(SMALL), Blobs(nc.jetstream())
    model = b"m" * 100
    await put(cache, "train", model)
    blob = await releases.put(model, media_type="application/vnd.keras")
    await make_cache(Bounds(maximum_bytes=0)).make_room()
    assert await cache.get("train") is None
    assert await releases.get(blob.digest) == model


async def test_of_what_is_gone_nothing_is_left_in_the_object_store(nc: Client, make_cache: MakeCache) -> None:
    cache = make_cache(SMALL)
    for index in range(20):
        await put(cache, f"{index}", bytes([index]) * 100)
    await make_cache(Bounds(maximum_bytes=0)).make_room()
    assert (await nc.jetstream().stream_info(f"OBJ_{BUCKET}")).state.messages == 0
    await cache.blobs.delete("sha256:" + "0" * 64)


async def test_what_is_too_old_goes_however_often_it_was_used(make_cache: MakeCache, clock: Clock) -> None:
    cache = make_cache(SMALL)
    await put(cache, "k", b"1")
    clock.now_s += 900
    await cache.get("k")
    await cache.make_room()
    assert await cache.get("k") == {"0.npz": b"1"}
    clock.now_s += 200
    await cache.make_room()
    assert await cache.get("k") is None


async def test_the_server_drops_what_no_row_names_at_the_age_of_today_and_never_a_release(
    nc: Client, make_cache: MakeCache
) -> None:
    await put(make_cache(SMALL), "k", b"1")
    await put(make_cache(Bounds(maximum_age_s=77)), "l", b"2")
    await Blobs(nc.jetstream()).put(b"release", media_type="x")
    ages = [(await nc.jetstream().stream_info(f"OBJ_{name}")).config.max_age for name in (BUCKET, "ARTIFACTS")]
    assert ages == [77, 0]


async def test_an_entry_larger_than_the_whole_cache_is_not_kept(nc: Client, make_cache: MakeCache) -> None:
    cache = make_cache(SMALL)
    await put(cache, "huge", b"1" * 200, b"2" * 101)
    assert await cache.get("huge") is None
    with pytest.raises(NotFoundError):
        await nc.jetstream().stream_info(f"OBJ_{BUCKET}")


async def test_replicas_that_build_and_make_room_at_once_see_whole_entries_only(make_cache: MakeCache) -> None:
    def content(index: int) -> list[bytes]:
        return [bytes([index]) * 60, bytes([index % 3]) * 40]

    async def build(cache: BlobCache, seed: int) -> int:
        found, chance = 0, random.Random(seed)
        for _ in range(60):
            index = chance.randrange(9)
            files = await cache.get(f"{index}")
            if files is None:
                await put(cache, f"{index}", *content(index))
            else:
                assert list(files.values()) == content(index)
                found += 1
            await cache.make_room()
        return found

    replicas = [make_cache(SMALL) for _ in range(3)]
    assert sum(await asyncio.gather(*(build(replica, seed) for seed, replica in enumerate(replicas)))) > 0
    await replicas[0].make_room()
    async with replicas[0].store.transaction() as tx:
        assert 0 < used_bytes(builds.cached_stages(tx)) <= SMALL.maximum_bytes
