"""Queuing a job for a program: what is tested, the demands on its boards, and the bytes that the place will ask for."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from edgeloop.artifacts import require_digest
from edgeloop.errors import UsageError
from edgeloop.events import connected
from edgeloop.lab.asking import LabClient
from edgeloop.lab.boards_view import requirement_of
from edgeloop.lab.building import Built
from edgeloop.lab.from_model import of_model
from edgeloop.lab.from_release import of_release, refuse_what_the_manifest_says
from edgeloop.lab.from_repository import of_repository
from edgeloop.lab.images import read_image_file, release_of
from edgeloop.lab.subject import Subject, Wish
from shared.artifacts.oci import MediaType
from shared.boards import Board, catalogue
from shared.events.lab import BoardClass
from shared.lab import Requirement
from shared.lab.board import traits_of
from shared.lab.messages import JobView, Submit, Work
from shared.procedures import Effort
from shared.procedures.workloads import MEDIA_TYPE, write_workload
from shared.releases.release import Release
from shared.store import BlobMissingError, Blobs

_OF_THE_LAB: Final = frozenset({"place", "class"})
"""Traits that no catalogue knows: where a board hangs, and how real it is."""
_JOB: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")


async def fetched(bus: str, digest: str) -> tuple[Release, dict[str, bytes]]:
    """Return a release, and the bytes of its model, its test set and its images.

    Raises:
        UsageError: there is none, or a part of it is missing.
    """
    async with connected(bus) as nc:
        blobs = Blobs(nc.jetstream())
        release = await release_of(blobs, require_digest(digest))
        wanted = (release.model.int8, release.datasets.test, *(firmware.image for firmware in release.firmware))
        try:
            return release, {blob.digest: await blobs.get(blob.digest) for blob in wanted}
        except BlobMissingError as error:
            raise UsageError(f"release {digest} is not whole: {error}", next_step="push the commit again") from error


def board_for(release: Release, needs: Sequence[Requirement]) -> Board:
    """Return the one board that a release has firmware for and that every need allows.

    Raises:
        UsageError: there is none, or there are several.
    """
    built = [catalogue()[firmware.board] for firmware in release.firmware if firmware.board in catalogue()]
    fitting = [board for board in built if all(_may_serve(need, board) for need in needs)]
    if len(fitting) == 1:
        return fitting[0]
    have = ", ".join(board.name for board in built) or "no board"
    if not fitting:
        raise UsageError(
            f"--need: no board that the release has firmware for meets it; it has some for {have}",
            next_step="ask for less, or add a board to boards in edgeloop.yaml",
        )
    raise UsageError(
        f"the release has firmware for {', '.join(board.name for board in fitting)}, and any of them would do",
        next_step=f"name one with --board {fitting[0].name}; a job runs one firmware",
    )


def subject_of(
    target: str,
    wish: Wish,
    *,
    model: Path | None,
    contents: tuple[Release, dict[str, bytes]] | None,
    told: Callable[[str], None],
) -> Subject:
    """Return what is tested, from what the user named: a release, a model, an image with its model, a repository.

    Raises:
        UsageError: it is none of them, or an option does not fit.
        GateFailedError: a repository does not build.
        InfrastructureError: something that this machine lacks.
    """
    path = Path(target)
    if model is not None:
        # What the image takes of the RAM is in its ELF alone.
        return of_model(model, wish, Built(read_image_file(path), "as given", 0))
    if contents is not None:
        refuse_what_the_manifest_says(wish)
        release, data = contents
        return of_release(release, target, data, wish, path)
    if path.is_dir():
        return of_repository(path, wish, told)
    if path.suffix == ".tflite" and path.is_file():
        return of_model(path, wish)
    if path.is_file():
        raise UsageError(
            f"{target}: found no .tflite; of an image nobody knows what it should answer",
            next_step=f"name its model too: edgeloop lab submit {target} --model MODEL.tflite",
        )
    raise UsageError(
        f"{target}: no such file; allowed is a release's digest, a .tflite, a signed image with --model, a repository",
        next_step="`edgeloop artifact list` shows the digests of releases",
    )


def demands_on(board: Board, needs: Sequence[str], count: int) -> tuple[str, ...]:
    """Return what is asked of each of `count` boards, which all run the same firmware.

    Raises:
        UsageError: a need that nobody can read, or that this kind of board can never meet.
    """
    texts = [f"board in {board.name}"]
    for need in needs:
        read = requirement_of(need)
        if not _may_serve(read, board):
            raise UsageError(
                f"--need {need!r}: {board.name} never meets it; it has {board.core}, {board.flash_bytes:,} B of flash "
                f"and {board.ram_bytes:,} B of RAM",
                next_step="ask for less, or name another --board",
            )
        texts += [str(read)] if read.predicates else []
    return ("; ".join(texts),) * count


def require_job_id(name: str) -> str:
    """Return a job's id that the user chose. Raises UsageError when it is none."""
    if not _JOB.fullmatch(name):
        raise UsageError(
            f"--id {name!r}: allowed are 1 to 64 letters, digits, _ . and -", next_step="write it like --id nightly-17"
        )
    return name


async def queue(lab: LabClient, order: Submit, subject: Subject, procedure: str, effort: Effort) -> JobView:
    """Put image and workload where places find them, and queue the job."""
    blobs = Blobs(lab.nc.jetstream())
    image = await blobs.put(subject.built.image, media_type=MediaType.IMAGE, name="firmware.img")
    workload = await blobs.put(write_workload(subject.workload, effort), media_type=MEDIA_TYPE, name="workload.npz")
    work = Work(
        procedure=procedure,
        image=image.digest,
        workload=workload.digest,
        deadline_s=order.limit_s,
        release=subject.digest,
        toolchain=subject.built.toolchain,
        numerics=subject.workload.numerics,
    )
    return await lab.submit(order.model_copy(update={"work": (work,) * len(order.demands)}))


def _may_serve(need: Requirement, board: Board) -> bool:
    traits = traits_of(board, "", BoardClass.EMULATED)
    return all(each.holds(traits) for each in need.predicates if each.trait not in _OF_THE_LAB)
