import errno

import pytest

from services.artifact_builder.codegen import MalformedModelError, UnsupportedModelError
from services.artifact_builder.errors import AuthorError, BuildFailureError, InfrastructureError
from services.artifact_builder.firmware.compilers import CompilerError, CompilerUnavailableError
from services.artifact_builder.firmware.compiling import DoesNotFitError, Shortage
from services.artifact_builder.firmware.signing import SigningError
from services.artifact_builder.sandbox.processes import SupervisorError
from services.artifact_builder.stages import Stages
from shared.events.artifact import BuildStage
from shared.inference import InferenceError, ReferenceMissingError
from shared.releases.datasets import DatasetError
from shared.releases.manifest_loader import ManifestError, Problem


def failing(error: Exception, stage: BuildStage = BuildStage.COMPILE) -> None:
    with Stages().stage(stage):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        AuthorError("reason"),
        DatasetError("reason"),
        MalformedModelError("reason"),
        UnsupportedModelError("reason"),
        InferenceError("reason"),
        CompilerError("reason"),
    ],
)
def test_what_its_author_can_mend_names_the_stage(error: Exception) -> None:
    with pytest.raises(BuildFailureError) as caught:
        failing(error, BuildStage.GENERATE)
    assert (caught.value.stage, caught.value.reason) == (BuildStage.GENERATE, "reason")


def test_a_model_that_does_not_fit_says_what_it_needs_and_what_there_is() -> None:
    with pytest.raises(BuildFailureError, match="flash needs 300,000 bytes and has 262,144"):
        failing(DoesNotFitError("cortex-m0plus", Shortage("flash", 300_000, 262_144)))


def test_all_problems_of_a_manifest_are_in_the_reason() -> None:
    problems = [Problem(line, f"key{line}", "x", "y", "z") for line in (2, 1)]
    with pytest.raises(BuildFailureError) as caught:
        failing(ManifestError("edgeloop.yaml", problems))
    assert caught.value.reason.splitlines() == [problem.describe("edgeloop.yaml") for problem in reversed(problems)]


def test_the_compilers_last_lines_are_kept_apart() -> None:
    with pytest.raises(BuildFailureError) as caught:
        failing(CompilerError("cc failed; its last lines:\nmodel.c:1: error\n1 error"))
    assert caught.value.last_lines == ("model.c:1: error", "1 error")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/somewhere"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SigningError("no key"),
        CompilerUnavailableError("not installed"),
        ReferenceMissingError("no TFLM here"),
        SupervisorError("killed"),
        InfrastructureError("unreachable"),
    ],
)
def test_what_the_machine_has_to_mend_is_no_failure_of_the_build(error: Exception) -> None:
    with pytest.raises(InfrastructureError):
        failing(error)


def test_what_nobody_foresaw_is_not_disguised() -> None:
    with pytest.raises(PermissionError):
        failing(PermissionError(errno.EACCES, "Permission denied"))


def test_a_stage_is_timed_when_it_ends_well() -> None:
    stages = Stages()
    with stages.stage(BuildStage.CLONE):
        pass
    assert [timing.stage for timing in stages.timings] == [BuildStage.CLONE]
