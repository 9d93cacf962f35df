"""Stages of a build: timed, their errors of two kinds, and not run again while nothing that they depend on changed."""

import contextlib
import errno
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from services.artifact_builder.caching.code import code_digest
from services.artifact_builder.caching.keys import Files, StageCache, key_of
from services.artifact_builder.codegen import MalformedModelError, UnsupportedModelError
from services.artifact_builder.errors import AuthorError, BuildFailureError, InfrastructureError
from services.artifact_builder.fingerprint import Toolbox
from services.artifact_builder.firmware.compilers import CompilerError, CompilerUnavailableError
from services.artifact_builder.firmware.compiling import DoesNotFitError
from services.artifact_builder.firmware.signing import SigningError
from services.artifact_builder.key_uri import SignerError
from services.artifact_builder.sandbox.engines import Engine
from services.artifact_builder.sandbox.processes import SupervisorError
from shared.events.artifact import BuildStage, StageTiming
from shared.inference import InferenceError, ReferenceUnavailableError
from shared.releases.datasets import DatasetError
from shared.releases.manifest_loader import ManifestError

AUTHOR_ERRORS: Final = (
    ManifestError,
    DatasetError,
    UnsupportedModelError,
    MalformedModelError,
    InferenceError,
    DoesNotFitError,
)
"""What adapters raise when the repository is at fault; each message names the place and the next step."""

MACHINE_ERRORS: Final = (
    ReferenceUnavailableError,
    SigningError,
    SignerError,
    SupervisorError,
    CompilerUnavailableError,
)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Part(StrEnum):
    """What is remembered on its own. A stage may have several: one for each board, for example."""

    DATA = "data"
    TRAIN = "train"
    TESTS = "tests"
    QUANTISE = "quantise"
    GENERATE = "generate"
    REFERENCE = "reference"
    COMPILE = "compile"
    SIGN = "sign"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class Depends:
    """What a part depends on beside its inputs."""

    code: tuple[str, ...]
    """Modules that do its work; all that they import counts."""
    folders: tuple[str, ...] = ()
    """Files of ours that are not Python."""
    compiler: bool = False


_PACKAGE: Final = "services.artifact_builder"
DEPENDS: Final[Mapping[Part, Depends]] = {
    Part.DATA: Depends((f"{_PACKAGE}.steps",)),
    Part.TRAIN: Depends((f"{_PACKAGE}.steps",)),
    Part.TESTS: Depends((f"{_PACKAGE}.steps",)),
    Part.QUANTISE: Depends((f"{_PACKAGE}.inputs.*",)),
    Part.GENERATE: Depends((f"{_PACKAGE}.codegen.*",)),
    Part.REFERENCE: Depends((f"{_PACKAGE}.reference",)),
    Part.COMPILE: Depends((f"{_PACKAGE}.firmware.compiling",), folders=("firmware",), compiler=True),
    Part.SIGN: Depends((f"{_PACKAGE}.firmware.signing",)),
    Part.COUNT: Depends((f"{_PACKAGE}.measuring",)),
}
"""Python, the machine and every installed package count for all of them: see `fingerprint.Toolbox`."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered from earlier builds, and what this one builds with."""

    cache: StageCache
    toolbox: Toolbox

    def key_of(self, part: Part, inputs: object) -> str:
        """Return the key of a part: equal keys give equal files."""
        depends = DEPENDS[part]
        compiler = self.toolbox.compiler if depends.compiler else ""
        return key_of(part, inputs, code_digest(depends.code, depends.folders), self.toolbox.environment, compiler)


@dataclass(slots=True)
class Stages:
    """Runs the stages of one build."""

    project: str = ""
    memory: Memory | None = None
    """None: everything runs."""
    told: Callable[[BuildStage], None] = lambda _: None
    """Hears of each stage when it begins."""
    timings: list[StageTiming] = field(default_factory=list)
    sandbox: Engine | None = None
    """What a program of this build ran in; None while none did."""
    _found: int = 0
    _ran: int = 0

    @contextlib.contextmanager
    def stage(self, name: BuildStage) -> Iterator[None]:
        """Run one stage.

        Raises:
            BuildFailureError: the author's fault, or generated code that no compiler takes.
            InfrastructureError: the machine's, a full disk among others.
        """
        begun = time.perf_counter()
        self._found = self._ran = 0
        self.told(name)
        try:
            yield
        except AuthorError as error:
            raise BuildFailureError(name, error.reason, error.last_lines, self.sandbox) from error
        except CompilerError as error:
            # Ours, as the reason says. Trying again would not help, and the author must not wait for a verdict.
            reason, *lines = str(error).splitlines()
            raise BuildFailureError(name, reason, lines, self.sandbox) from error
        except AUTHOR_ERRORS as error:
            raise BuildFailureError(name, str(error), sandbox=self.sandbox) from error
        except MACHINE_ERRORS as error:
            raise InfrastructureError(str(error)) from error
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise InfrastructureError(
                f"no space left on the disk of {error.filename or 'the builder'}: {error}"
            ) from error
        seconds = round(time.perf_counter() - begun, 3)
        self.timings.append(StageTiming(stage=name, seconds=seconds, cached=self._found > 0 and self._ran == 0))

    def note_program(self, engine: Engine) -> None:
        """Hear that a program begins."""
        self.sandbox = engine

    async def remembered(self, part: Part, inputs: object, work: Callable[[], Awaitable[Files]]) -> Files:
        """Return what `work` gives, or gave when it ran last with equal inputs. A failure is never remembered."""
        if self.memory is None:
            self._ran += 1
            return await work()
        key = self.memory.key_of(part, inputs)
        if (files := await self.memory.cache.get(key)) is not None:
            self._found += 1
            return files
        self._ran += 1
        files = await work()
        await self.memory.cache.put(key, files, stage=part, project=self.project)
        return files
