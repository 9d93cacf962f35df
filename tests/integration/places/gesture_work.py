"""Work on firmware of the gesture model: what is asked of it, and what a board should answer."""

from dataclasses import dataclass, field, replace

import numpy as np

from shared.boards import image_board
from shared.events import digest_of
from shared.inference.tflm import tflm_outputs
from shared.lab.messages import AskProgress, Begin, Grant, Progress, Work, WorkState
from shared.places.agent import PlaceAgent
from shared.procedures import Effort, Workload
from shared.procedures.workloads import write_workload
from shared.releases.histograms import quantise
from tests.data.gestures.release import INT8, MemoryBlobs, quantisation, windows
from tests.integration.device_lab.workshop import Change, Workshop
from tests.support import eventually

BOARD = "cortex-m4"


def gestures(rows: int = 6) -> Workload:
    x, y = windows(rows, seed=5)
    inputs = quantise(x, quantisation("input")).reshape(rows, -1)
    return Workload(
        board=image_board(BOARD),
        model_digest=digest_of(INT8),
        inputs=inputs,
        expected=tflm_outputs(INT8, inputs.reshape(x.shape)).reshape(rows, -1),
        labels=y,
    )


def repeated(workload: Workload, times: int) -> Workload:
    assert workload.labels is not None
    return replace(
        workload,
        inputs=workload.inputs.repeat(times, axis=0),
        expected=workload.expected.repeat(times, axis=0),
        labels=np.repeat(workload.labels, times),
    )


@dataclass
class Orders:
    """An object store, and what its objects are to be used for."""

    workshop: Workshop
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)

    def image(self, change: Change | None = None, board: str = BOARD) -> str:
        return self.workshop.build(self.blobs, board, change).image.digest

    def work(
        self,
        image: str,
        procedure: str = "staging",
        workload: Workload | None = None,
        *,
        effort: Effort | None = None,
        deadline_s: float = 300,
        identity: str = "",
    ) -> Work:
        asked = self.blobs.keep(write_workload(workload or gestures(), effort))
        return Work(procedure=procedure, image=image, workload=asked.digest, deadline_s=deadline_s, identity=identity)


async def begin(agent: PlaceAgent, board: str, token: int, work: Work) -> None:
    await agent.grant(Grant(board=board, token=token, ttl_s=600))
    await agent.begin(Begin(board=board, token=token, work=work))


async def state(agent: PlaceAgent, board: str, token: int) -> WorkState:
    return (await agent.progress(AskProgress(board=board, token=token))).state


async def ended(agent: PlaceAgent, board: str, token: int) -> Progress:
    async def is_over() -> bool:
        return await state(agent, board, token) is WorkState.ENDED

    await eventually(is_over)
    return await agent.progress(AskProgress(board=board, token=token))


async def done(agent: PlaceAgent, board: str, token: int, work: Work) -> Progress:
    await begin(agent, board, token, work)
    return await ended(agent, board, token)
