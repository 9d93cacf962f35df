import asyncio
import dataclasses
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.artifact_builder.caching.code import ROOT, code_digest, modules_of
from services.artifact_builder.caching.codecs import pack, unpack
from services.artifact_builder.caching.folder import DamagedEntryError, FolderCache, decode, encode
from services.artifact_builder.caching.keys import NOT_IN_KEY, Files, key_of
from services.artifact_builder.stages import DEPENDS, Part
from shared.boards import image_board
from shared.releases.release import Quantisation

KEY = "ab" + 62 * "0"
OTHER_KEY = "cd" + 62 * "0"
FILE_SETS = st.dictionaries(st.text(max_size=20), st.binary(max_size=200), max_size=5)


class Kind(StrEnum):
    ONE = "one"


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    data: bytes
    other: bytes
    names: Mapping[str, str]
    quantisation: Quantisation
    kind: Kind
    count: int
    share: float
    parts: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Limited:
    command: tuple[str, ...]
    timeout_s: float = dataclasses.field(default=1.0, metadata=NOT_IN_KEY)


@dataclasses.dataclass(frozen=True)
class Renamed:
    command: tuple[str, ...]


def put(cache: FolderCache, key: str, files: Files) -> None:
    asyncio.run(cache.put(key, files, stage="train", project="fan"))


def get(cache: FolderCache, key: str) -> Files | None:
    return asyncio.run(cache.get(key))


def entry_of(folder: Path, key: str) -> Path:
    return folder / key[:2] / f"{key}.stage"


@given(data=st.binary(), count=st.integers(), share=st.floats(allow_nan=False, allow_infinity=False), text=st.text())
def test_a_dataclass_comes_back_as_it_went(data: bytes, count: int, share: float, text: str) -> None:
    made = Made(data, b"\xff", {text: text}, Quantisation(scale=share, zero_point=-1), Kind.ONE, count, share, (1, 2))
    assert unpack(Made, pack(made)) == made


def test_equal_bytes_of_a_dataclass_are_equal_files() -> None:
    files = pack(Made(b"a", b"b", {}, Quantisation(scale=0.1, zero_point=0), Kind.ONE, 1, 0.1))
    assert set(files) == {"data", "other", "facts.json"}
    assert (files["data"], files["other"]) == (b"a", b"b")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Limited(("a",)), Limited(("b",))),
        (Limited(("a", "b")), Limited(("ab",))),
        (Limited(("a",)), Renamed(("a",))),
        (b"a", "a"),
        (1, "1"),
        ({"a": "1"}, {"a": 1}),
        (["a", ["b"]], [["a"], "b"]),
        (image_board("cortex-m4"), image_board("cortex-m4").model_copy(update={"ram_bytes": 1})),
    ],
)
def test_whatever_differs_has_another_key(one: object, other: object) -> None:
    assert key_of(one) != key_of(other)


def test_a_time_limit_and_the_order_of_names_are_in_no_key() -> None:
    assert key_of(Limited(("a",), 1)) == key_of(Limited(("a",), 2))
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})


def test_what_has_no_stable_form_is_refused() -> None:
    with pytest.raises(TypeError, match="set cannot be part of a stage's key"):
        key_of({"a"})
    with pytest.raises(TypeError, match="PosixPath"):
        key_of(Path("/tmp"))


def test_the_code_of_a_stage_is_found_by_its_imports_inside_functions_too() -> None:
    conversion = modules_of(["services.artifact_builder.inputs.*"])
    assert "services.artifact_builder.determinism" in conversion
    assert "services.artifact_builder.inputs.conversion" in conversion
    assert "services.artifact_builder.codegen.reader" in conversion
    assert {name.partition(".")[0] for name in conversion} <= {"services", "shared", "firmware"}


def test_training_does_not_depend_on_the_generator_nor_on_the_firmware() -> None:
    names = set(modules_of(DEPENDS[Part.TRAIN].code))
    assert "services.artifact_builder.sandbox.limits" in names
    assert not {name for name in names if name.startswith(("services.artifact_builder.codegen", "shared.boards"))}


@pytest.mark.parametrize("part", list(Part))
def test_every_part_names_code_that_exists(part: Part) -> None:
    depends = DEPENDS[part]
    assert len(modules_of(depends.code)) > 1
    assert all((ROOT / folder).is_dir() for folder in depends.folders)
    assert len(code_digest(depends.code, depends.folders)) == 64


@given(files=FILE_SETS)
def test_an_entry_comes_back_as_it_went(files: dict[str, bytes]) -> None:
    assert decode(KEY, encode(KEY, files)) == files


@given(files=FILE_SETS, data=st.data())
def test_an_entry_with_any_flipped_byte_or_missing_end_is_refused(files: dict[str, bytes], data: Any) -> None:
    entry = bytearray(encode(KEY, files))
    at = data.draw(st.integers(0, len(entry) - 1))
    with pytest.raises(DamagedEntryError):
        decode(KEY, bytes(entry[:at]))
    entry[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DamagedEntryError):
        decode(KEY, bytes(entry))


def test_what_was_put_is_found_and_what_was_not_is_not(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path / "cache")
    assert get(cache, KEY) is None
    put(cache, KEY, {"model": b"1", "empty": b""})
    assert get(cache, KEY) == {"model": b"1", "empty": b""}
    assert get(cache, OTHER_KEY) is None
    put(cache, KEY, {})
    assert get(cache, KEY) == {}


def test_a_damaged_entry_is_said_removed_and_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = FolderCache(tmp_path)
    put(cache, KEY, {"model": b"1" * 100})
    entry = entry_of(tmp_path, KEY)
    entry.write_bytes(entry.read_bytes()[:-1])
    assert get(cache, KEY) is None
    assert "it is removed, and the stage runs again" in caplog.text
    assert not entry.exists()
    put(cache, KEY, {"model": b"2"})
    assert get(cache, KEY) == {"model": b"2"}


def test_an_entry_under_another_key_is_no_answer(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path)
    put(cache, KEY, {"model": b"1"})
    entry_of(tmp_path, OTHER_KEY).parent.mkdir()
    entry_of(tmp_path, KEY).rename(entry_of(tmp_path, OTHER_KEY))
    assert get(cache, OTHER_KEY) is None


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path, maximum_bytes=4000)
    keys = [f"{number:02}" + 62 * "0" for number in range(4)]
    for age, key in enumerate(keys[:3]):
        put(cache, key, {"model": bytes(1000)})
        os.utime(entry_of(tmp_path, key), (1000 + age, 1000 + age))
    assert get(cache, keys[0]) is not None
    put(cache, keys[3], {"model": bytes(1000)})
    assert [get(cache, key) is not None for key in keys] == [True, False, True, True]
    put(cache, KEY, {"model": bytes(5000)})
    assert get(cache, KEY) is None, "larger than all that is allowed"
    assert get(cache, keys[3]) is not None


def test_what_killed_processes_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path)
    put(cache, KEY, {})
    old, new = (tmp_path / KEY[:2] / f".unfinished-{name}" for name in ("old", "new"))
    for file in (old, new):
        file.touch()
    os.utime(old, (0, 0))
    put(cache, OTHER_KEY, {})
    assert (old.exists(), new.exists()) == (False, True)


def put_for_ever(folder: Path, number: int) -> None:
    cache = FolderCache(folder, maximum_bytes=400_000)
    while True:
        for index in range(16):
            put(cache, f"{index:02}" + 62 * "0", {"model": bytes([index]) * 50_000, "by": str(number).encode()})


def test_processes_that_put_at_once_and_are_killed_leave_whole_entries_within_the_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = FolderCache(tmp_path, maximum_bytes=400_000)
    started = multiprocessing.get_context("spawn")
    writers = [started.Process(target=put_for_ever, args=(tmp_path, number)) for number in range(2)]
    for writer in writers:
        writer.start()
    found, until = 0, time.monotonic() + 2
    while time.monotonic() < until or not found:
        for index in range(16):
            files = get(cache, f"{index:02}" + 62 * "0")
            if files is not None:
                assert files["model"] == bytes([index]) * 50_000
                found += 1
    for writer in writers:
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    put(cache, KEY, {})
    assert not caplog.text
    assert sum(file.stat().st_size for file in tmp_path.glob("??/*.stage")) <= 400_000
