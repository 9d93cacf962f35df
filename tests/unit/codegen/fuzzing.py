"""Gives `generate` damaged models and reports what came of it, as JSON. Run in a process with limits by the tests.

``python -m tests.unit.codegen.fuzzing COUNT SEED MODEL...``
"""

import collections
import json
import random
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from services.artifact_builder.codegen import MalformedModelError, UnsupportedModelError, generate

_WORDS: Final = (0, 1, 2, 4, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFC, 0xFFFF_FFFF, 0x1000_0000, 0x7F80_0000)
_BYTES: Final = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)


def _flip_bits(data: bytearray, rng: random.Random, _corpus: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set_bytes(data: bytearray, rng: random.Random, _corpus: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 2, 5, 20))):
        data[rng.randrange(len(data))] = rng.choice((*_BYTES, rng.randrange(256)))


def _set_words(data: bytearray, rng: random.Random, _corpus: Sequence[bytes]) -> None:
    """Attack lengths, offsets, shapes and scales, which are aligned words."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        word = rng.choice((*_WORDS, len(data), rng.randrange(len(data)), rng.randrange(1 << 32)))
        struct.pack_into("<I", data, 4 * rng.randrange(len(data) // 4), word)


def _copy_words(data: bytearray, rng: random.Random, _corpus: Sequence[bytes]) -> None:
    """Let tables and vectors overlap, and offsets lead in circles."""
    for _ in range(rng.choice((1, 2, 6))):
        size = 4 * rng.choice((1, 1, 2, 8))
        source, target = (4 * rng.randrange(max(1, (len(data) - size) // 4)) for _ in range(2))
        data[target : target + size] = data[source : source + size]


def _truncate(data: bytearray, rng: random.Random, _corpus: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data)) :]


def _splice(data: bytearray, rng: random.Random, corpus: Sequence[bytes]) -> None:
    other = rng.choice(corpus)
    begin, at = rng.randrange(len(other)), rng.randrange(len(data))
    piece = other[begin : begin + rng.choice((4, 16, 200, len(other)))]
    data[at : at + rng.choice((0, len(piece)))] = piece


_MUTATIONS: Final[Sequence[Callable[[bytearray, random.Random, Sequence[bytes]], None]]] = (
    _flip_bits,
    _set_bytes,
    _set_words,
    _set_words,
    _copy_words,
    _truncate,
    _splice,
)


def mutated(rng: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Return one damaged model."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 2, 3))):
        if len(data) >= 8:
            rng.choice(_MUTATIONS)(data, rng, corpus)
    if len(data) >= 8 and rng.random() < 0.9:  # the identifier is checked first, and then nothing else is reached
        data[4:8] = b"TFL3"
    return bytes(data)


def main(count: int, seed: int, paths: Sequence[str]) -> None:
    """Try so many models, and print how many ended how."""
    corpus = [Path(path).read_bytes() for path in paths]
    rng = random.Random(seed)
    ends: collections.Counter[str] = collections.Counter()
    slowest_s = 0.0
    for number in range(count):
        data = mutated(rng, corpus)
        begin = time.process_time()
        try:
            generate(data)
            ends["generated"] += 1
        except (MalformedModelError, UnsupportedModelError) as error:
            ends[type(error).__name__] += 1
        except BaseException:
            Path(f"crash-{number}.tflite").write_bytes(data)
            raise
        slowest_s = max(slowest_s, time.process_time() - begin)
    sys.stdout.write(json.dumps({**ends, "slowest_s": slowest_s}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
