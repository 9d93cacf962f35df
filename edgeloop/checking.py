"""Builds and judges a working tree on this machine, without a bus: the same code that the services run."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from edgeloop.errors import InfrastructureError, UsageError
from edgeloop.git import isolated_environment
from edgeloop.layout import Layout
from edgeloop.sandboxes import sandbox_options
from services.artifact_builder.caching.folder import FolderCache
from services.artifact_builder.errors import AuthorError, BuildFailureError
from services.artifact_builder.errors import InfrastructureError as MachineError
from services.artifact_builder.fingerprint import Toolbox
from services.artifact_builder.firmware.signing import generate_key
from services.artifact_builder.firmware.toolchains import Toolchain
from services.artifact_builder.pipeline import BuildRequest, BuildResult, Site, build_checkout
from services.artifact_builder.sandbox.engines import NoSandboxError
from services.artifact_builder.source import require_harmless_folder
from services.artifact_builder.stages import Memory, Stages
from services.artifact_builder.tools import Tools
from services.artifact_builder.workspace import workspace
from services.data_validator.assessment import assess as assess_data
from services.model_validator.assessment import assess as assess_model
from shared.boards import ImageBoard, board_named
from shared.boards.modelling import modelled_latency
from shared.events import Check
from shared.events.artifact import BuildStage, StageTiming
from shared.inference import ReferenceUnavailableError
from shared.inference.tflm import require_tflm
from shared.releases.gates import passes
from shared.releases.manifest import Manifest
from shared.releases.manifest_loader import MANIFEST_NAME, ManifestError, load_manifest
from shared.releases.release import Firmware

REPORT_FILE: Final = "report.json"
NO_COMMIT: Final = "0" * 40
_IGNORED: Final = frozenset({".git", "__pycache__", ".venv", "node_modules", ".edgeloop"})
_GIT_TIMEOUT_S: Final = 60


class BoardReport(BaseModel):
    """What the firmware takes of one board."""

    model_config = ConfigDict(frozen=True)

    board: str
    flash_bytes: int
    ram_bytes: int = Field(description="Static: .data and .bss, without the stack")
    arena_bytes: int
    instructions: int | None = Field(description="Of one inference, counted on the emulated core")
    modelled_latency_ms: float | None = Field(description="Modelled from the instructions; not measured")


class Failure(BaseModel):
    """Why there is no release."""

    model_config = ConfigDict(frozen=True)

    stage: BuildStage
    reason: str
    last_lines: tuple[str, ...] = ()


class CheckReport(BaseModel):
    """All that a check found."""

    model_config = ConfigDict(frozen=True)

    project: str
    commit: str = Field(description="That the working tree is based on; zeros when there is none")
    uncommitted: tuple[str, ...] = Field(description="Files that differ from it, and were checked as they are")
    sandbox: str = Field(description="What the repository's code ran in")
    digest: str | None = Field(default=None, description="Of the release; it names the key that signed")
    stages: tuple[StageTiming, ...] = ()
    boards: tuple[BoardReport, ...] = ()
    data: tuple[Check, ...] = ()
    model: tuple[Check, ...] = ()
    failure: Failure | None = None

    @property
    def passed(self) -> bool:
        """Whether there is a release that passes every gate."""
        return self.failure is None and passes((*self.data, *self.model))


@dataclass(frozen=True, slots=True)
class Bench:
    """What a check works with on this machine."""

    data: Path
    """Of a stack: its key signs when it is there."""
    cache: Path | None
    """Where stages are remembered; None: everything runs."""
    compiler_cache: Path
    toolchain: Toolchain = Toolchain.ZIG


def manifest_of(path: Path) -> Manifest:
    """Return the manifest of the repository at `path`.

    Raises:
        UsageError: there is none, or it has problems: one line each, ``file:line: key: …``.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such folder", next_step="name the folder that has edgeloop.yaml")
    try:
        return load_manifest(path)
    except ManifestError as error:
        file = os.path.relpath(path / MANIFEST_NAME)
        said = "\n".join(problem.describe(file) for problem in error.problems)
        missing = not (path / MANIFEST_NAME).exists()
        raise UsageError(said, next_step=f"edgeloop init {path}" if missing else "") from error


async def check(path: Path, bench: Bench, told: Callable[[BuildStage], None]) -> tuple[CheckReport, BuildResult | None]:
    """Build the working tree at `path`, which is absolute, and judge it; return the report, and the release if any.

    Raises:
        UsageError: the manifest, a file that no repository may have, or a variable about sandboxes.
        InfrastructureError: something that this machine lacks.
    """
    manifest_of(path)
    project = slug(path.name)
    commit, uncommitted = state_of(path)
    with workspace(Path(tempfile.gettempdir()), prefix="edgeloop-check-") as work:
        checkout = work / "checkout"
        copy_working_tree(path, checkout)
        try:
            require_tflm()
            key = _key(bench, work)
            sandbox = sandbox_options(hidden=(bench.data.absolute(), key))
            tools = Tools(key, bench.compiler_cache, toolchain=bench.toolchain, sandbox=sandbox)
            require_harmless_folder(checkout, tools.checkout)
            site = Site(checkout, work, tools.sandbox.open(path.as_uri(), work / "sandbox", trusted=True))
            memory = None if bench.cache is None else Memory(FolderCache(bench.cache), Toolbox.of(tools))
            stages = Stages(project, memory, told)
            report = CheckReport(
                project=project, commit=commit, uncommitted=uncommitted, sandbox=site.sandbox.engine.value
            )
            request = BuildRequest(project, path.as_uri(), commit)
            result = await build_checkout(request, site, tools, stages)
            return judged(report, result), result
        except BuildFailureError as error:
            failure = Failure(stage=error.stage, reason=error.reason, last_lines=error.last_lines)
            return report.model_copy(update={"failure": failure, "stages": tuple(stages.timings)}), None
        except AuthorError as error:
            raise UsageError("\n".join((error.reason, *error.last_lines))) from error
        except (MachineError, NoSandboxError, ReferenceUnavailableError) as error:
            raise InfrastructureError(str(error)) from error


def judged(report: CheckReport, result: BuildResult) -> CheckReport:
    """Return the report with the release and the validators' answers."""
    contents = {artifact.blob.digest: artifact.data for artifact in result.artifacts}
    release = result.release
    files = release.datasets
    float32 = release.model.float32
    model = assess_model(
        release,
        contents[files.test.digest],
        contents[release.model.int8.digest],
        None if float32 is None else contents[float32.digest],
    )
    return report.model_copy(
        update={
            "digest": result.digest,
            "stages": result.stages,
            "boards": tuple(_board_report(firmware) for firmware in release.firmware),
            "data": assess_data(release, {name: contents[blob.digest] for name, blob in files.named().items()}),
            "model": model,
        }
    )


def _board_report(firmware: Firmware) -> BoardReport:
    return BoardReport(
        board=firmware.board,
        flash_bytes=firmware.flash_bytes,
        ram_bytes=firmware.ram_bytes,
        arena_bytes=firmware.arena_bytes,
        instructions=firmware.instructions,
        modelled_latency_ms=_modelled_latency_ms(firmware),
    )


def _modelled_latency_ms(firmware: Firmware) -> float | None:
    """Return None for boards that get a library: nothing counts their instructions."""
    board = board_named(firmware.board)
    if firmware.instructions is None or not isinstance(board, ImageBoard):
        return None
    latency = modelled_latency(firmware.instructions, board).value
    return None if latency is None else round(latency, 3)


def slug(name: str) -> str:
    """Return a project's name that every service takes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-") or "project"


def state_of(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the commit that a working tree is based on, and the files that differ from it."""
    commit = _git(path, "rev-parse", "--verify", "--quiet", "HEAD")
    changed = _git(path, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", ".")
    if commit is None or changed is None:
        return NO_COMMIT, ()
    return commit.decode().strip(), tuple(sorted(entry[3:].decode() for entry in changed.split(b"\0") if entry))


def copy_working_tree(path: Path, into: Path) -> None:
    """Copy what a commit of everything would hold: tracked files as they are, and new ones that git does not ignore."""
    into.mkdir()
    for name in _files(path):
        source, target = path / name, into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)


def _files(path: Path) -> Iterator[str]:
    listed = _git(path, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", ".")
    if listed is not None:
        names = (os.fsdecode(name) for name in listed.split(b"\0") if name)
        yield from (name for name in names if (path / name).is_symlink() or (path / name).is_file())
        return
    for folder, folders, files in os.walk(path):
        place = Path(folder)
        folders[:] = [name for name in folders if name not in _IGNORED]
        links = [name for name in folders if (place / name).is_symlink()]
        yield from ((place / name).relative_to(path).as_posix() for name in (*files, *links))


def _git(path: Path, *arguments: str) -> bytes | None:
    """Return what git says of the folder; None when it is in no repository, or git is not there."""
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            ["git", *arguments],  # noqa: S607 - the user's git
            cwd=path,
            env=isolated_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def _key(bench: Bench, work: Path) -> Path:
    """Return the stack's key, or else one for this check alone: a check makes no key that boards would trust."""
    key = Layout(bench.data).signing_key
    if key.is_file():
        return key.absolute()
    generate_key(work / "signing.pem", work / "signing.pub.pem")
    return work / "signing.pem"


def require_replaceable(out: Path) -> None:
    """Raise UsageError when `out` holds something that no check wrote."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / REPORT_FILE).is_file())):
        raise UsageError(f"--out {out}: not empty, and no earlier report", next_step="name a new or an empty directory")


def write_files(report: CheckReport, result: BuildResult | None, out: Path) -> Sequence[str]:
    """Write the report, and everything that the release is made of, below `out`, replacing an earlier one."""
    files: Mapping[str, bytes] = {
        **({artifact.name: artifact.data for artifact in result.artifacts} if result else {}),
        REPORT_FILE: (report.model_dump_json(indent=2) + "\n").encode(),
    }
    shutil.rmtree(out, ignore_errors=True)
    for name, content in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tuple(files)
