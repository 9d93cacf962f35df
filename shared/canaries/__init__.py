"""The lab's canary: one small fixed model, built for every board that has an image, and what TFLM answers for it.

A board that runs it with other bits is not to be trusted, whatever release was tried on it before. The images are data,
made by ``python -m edgeloop.canaries``, so that a change of the compiler or the kernels does not change what boards
are judged by. They are signed by a key that everybody can derive: a board that asks for another key refuses them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from shared.boards import image_board
from shared.lab.messages import Work
from shared.procedures import Workload
from shared.procedures.staging import NAME as STAGING
from shared.procedures.workloads import MEDIA_TYPE, write_workload
from shared.store import Blobs

FACTS: Final = "facts.json"
MODEL: Final = "model.tflite"
DEADLINE_S: Final = 60.0
"""What it takes less than a second for, on a machine that is not busy."""


class Facts(BaseModel):
    """How the images were made, and what they have to answer.

    Attributes:
        toolchain: What compiled them.
        sources: Digest of all sources, generated ones included, by board.
        inputs: Tensors in hexadecimal digits.
        expected: TFLM's outputs for them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_digest: str
    toolchain: str
    sources: Mapping[str, str]
    inputs: tuple[str, ...]
    expected: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Canary:
    """The signed image for one board, and what to ask of it."""

    image: bytes
    workload: Workload


def read_data(name: str) -> bytes:
    """Return one of the committed files."""
    return resources.files(__package__).joinpath("data", name).read_bytes()


@cache
def facts() -> Facts:
    """Return what is known of the images."""
    return Facts.model_validate_json(read_data(FACTS))


def canary(board: str) -> Canary:
    """Return the canary of a board of the catalogue; every one that has an image has one."""
    known = facts()
    inputs, expected = (
        np.frombuffer(bytes.fromhex("".join(rows)), np.int8).reshape(len(rows), -1)
        for rows in (known.inputs, known.expected)
    )
    workload = Workload(board=image_board(board), model_digest=known.model_digest, inputs=inputs, expected=expected)
    return Canary(read_data(f"{board}.img"), workload)


async def keep_canaries(blobs: Blobs) -> dict[str, Work]:
    """Put every canary where places fetch them; return the work, by board of the catalogue."""
    works = {}
    for board in facts().sources:
        found = canary(board)
        image = await blobs.put(found.image, media_type="application/octet-stream", name=f"canary-{board}.img")
        workload = await blobs.put(write_workload(found.workload), media_type=MEDIA_TYPE, name=f"canary-{board}.npz")
        works[board] = Work(procedure=STAGING, image=image.digest, workload=workload.digest, deadline_s=DEADLINE_S)
    return works
