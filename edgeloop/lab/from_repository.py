"""A repository as the subject of a test: built as a push would be, and tested on its release's own test set."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from edgeloop import checking
from edgeloop.compiling import emulated_board
from edgeloop.errors import GateFailedError
from edgeloop.lab.from_release import of_release, refuse_what_the_manifest_says
from edgeloop.lab.subject import Subject, Wish
from edgeloop.layout import compiler_cache, user_cache


def of_repository(path: Path, wish: Wish, told: Callable[[str], None]) -> Subject:
    """Build a working tree as `edgeloop check` does; its release is the subject.

    Raises:
        UsageError: the manifest, or an option that the manifest answers.
        GateFailedError: there is no release.
        InfrastructureError: something that this machine lacks.
    """
    emulated_board(wish.board)
    refuse_what_the_manifest_says(wish)
    bench = checking.Bench(
        data=wish.data,
        cache=user_cache() / "stages",
        compiler_cache=compiler_cache(),
        toolchain=wish.toolchain,
    )
    report, result = asyncio.run(checking.check(path.resolve(), bench, lambda stage: told(f"{stage} …")))
    if result is None:
        assert report.failure is not None
        said = (f"{path}: no release: {report.failure.stage}: {report.failure.reason}", *report.failure.last_lines)
        raise GateFailedError("\n".join(said), next_step=f"mend it until `edgeloop check {path}` builds")
    contents = {artifact.blob.digest: artifact.data for artifact in result.artifacts}
    return of_release(result.release, result.digest, contents, wish, path)
