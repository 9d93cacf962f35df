"""Which stages run again after which change: the real pipeline on a small repository."""

import asyncio
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from services.artifact_builder.caching.folder import FolderCache
from services.artifact_builder.errors import BuildFailureError
from services.artifact_builder.fingerprint import Toolbox
from services.artifact_builder.pipeline import BuildRequest, BuildResult, Site, build_checkout
from services.artifact_builder.sandbox.plain import PlainProcess
from services.artifact_builder.stages import Memory, Stages
from services.artifact_builder.tools import Tools
from shared.events.artifact import BuildStage
from tests.integration.artifact_builder.conftest import MANIFEST

pytestmark = pytest.mark.slow

PREPARE = """\
import os
import numpy as np
rng = np.random.default_rng(int(os.environ["EDGELOOP_SEED"]))
for name in ("train", "test"):
    rows = dict(x=rng.uniform(-1, 1, (4, 8, 1)).astype(np.float32), y=np.array([0, 1, 0, 1]), group=np.arange(4))
    np.savez(os.path.join(os.environ["EDGELOOP_OUTPUT_DIR"], name + ".npz"), **rows)
"""
TRAIN = """\
import os
import keras
keras.utils.set_random_seed(int(os.environ["EDGELOOP_SEED"]))
layers = [keras.layers.Input((8, 1)), keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")]
keras.Sequential(layers).save(os.path.join(os.environ["EDGELOOP_OUTPUT_DIR"], "model.keras"))
"""
TESTS = """\
import os
assert os.listdir(os.environ["EDGELOOP_MODEL_DIR"]) == ["model.keras"]
assert sorted(os.listdir(os.environ["EDGELOOP_DATA_DIR"])) == ["test.npz", "train.npz"]
print("tested")
"""
FILES = {
    "edgeloop.yaml": MANIFEST + "tests: {command: [python, tests.py], timeout_s: 60}\n",
    "prepare.py": PREPARE,
    "train.py": TRAIN,
    "tests.py": TESTS,
    "README.md": "Gestures",
}
MAKES = (
    BuildStage.DATA,
    BuildStage.TRAIN,
    BuildStage.QUANTISE,
    BuildStage.GENERATE,
    BuildStage.COMPILE,
    BuildStage.SIGN,
)


@pytest.fixture(scope="module")
def module_tools(zig_cache: Path, signing_key: Path) -> Tools:
    return Tools(signing_key=signing_key, compiler_cache=zig_cache)


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory, module_tools: Tools) -> Memory:
    return Memory(FolderCache(tmp_path_factory.mktemp("cache")), Toolbox.of(module_tools))


def build_of(files: dict[str, str], tools: Tools, memory: Memory | None, project: str = "gestures") -> BuildResult:
    with tempfile.TemporaryDirectory() as folder:
        site = Site(checkout=Path(folder) / "checkout", work=Path(folder) / "work", sandbox=PlainProcess())
        site.checkout.mkdir()
        for name, text in files.items():
            (site.checkout / name).write_text(text)
        request = BuildRequest(project, "file:///gestures", "0" * 40)
        return asyncio.run(build_checkout(request, site, tools, Stages(project, memory)))


@pytest.fixture(scope="module")
def first(module_tools: Tools, memory: Memory) -> BuildResult:
    return build_of(FILES, module_tools, memory)


Change = Callable[[str, str, str], BuildResult]


@pytest.fixture
def changed(first: BuildResult, module_tools: Tools, memory: Memory) -> Change:
    assert not any(timing.cached for timing in first.stages)

    def change(name: str, old: str, new: str) -> BuildResult:
        assert old in FILES[name]
        return build_of({**FILES, name: FILES[name].replace(old, new)}, module_tools, memory)

    return change


def ran(result: BuildResult) -> list[BuildStage]:
    return [timing.stage for timing in result.stages if timing.stage in MAKES and not timing.cached]


def test_without_a_change_nothing_runs_and_the_digest_is_the_same(changed: Change, first: BuildResult) -> None:
    again = changed("README.md", "Gestures", "Gestures")
    assert (ran(again), again.digest) == ([], first.digest)


def test_a_change_of_documentation_runs_nothing(changed: Change, first: BuildResult) -> None:
    again = changed("README.md", "Gestures", "Gestures of a wrist")
    assert (ran(again), again.release) == ([], first.release)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("gates: {accuracy: 0.5}", "gates: {accuracy: 0.5}\nbudgets: {cortex-m4: {flash_bytes: 100000}}"),
        ("accuracy: 0.5", "accuracy: 0.6"),
        ("timeout_s: 120", "timeout_s: 121"),
        ("name: Gestures", "name: Others"),
    ],
)
def test_a_change_of_budget_gate_or_time_limit_runs_nothing_and_is_another_release(
    old: str, new: str, changed: Change, first: BuildResult
) -> None:
    again = changed("edgeloop.yaml", old, new)
    assert ran(again) == []
    assert again.digest != first.digest


def test_a_budget_that_is_exceeded_fails_although_everything_is_remembered(changed: Change) -> None:
    with pytest.raises(BuildFailureError, match=r"budgets\.cortex-m4\.flash_bytes") as caught:
        changed("edgeloop.yaml", "gates:", "budgets: {cortex-m4: {flash_bytes: 100}}\ngates:")
    assert caught.value.stage is BuildStage.COMPILE


def test_another_board_compiles_and_signs_only(changed: Change) -> None:
    again = changed("edgeloop.yaml", "boards: [cortex-m4]", "boards: [cortex-m4, cortex-m7]")
    assert ran(again) == [BuildStage.COMPILE, BuildStage.SIGN]


def test_another_release_number_signs_only(changed: Change) -> None:
    assert ran(changed("edgeloop.yaml", "name: Gestures", "name: Gestures\nrelease: 1.0.1")) == [BuildStage.SIGN]


def test_another_label_trains_nothing(changed: Change) -> None:
    again = changed("edgeloop.yaml", "labels: [up, down]", "labels: [up, sideways]")
    assert ran(again) == []


def test_training_code_runs_the_model_and_not_the_data(changed: Change, first: BuildResult) -> None:
    again = changed("train.py", "import keras\n", "import keras  # as before\n")
    assert ran(again) == [BuildStage.DATA, BuildStage.TRAIN], "the data step may import any file that it sees"
    assert again.release.model == first.release.model


@pytest.mark.usefixtures("first")  # which must be the first with this memory
def test_inputs_of_a_step_narrow_what_it_depends_on(module_tools: Tools, memory: Memory) -> None:
    narrow = FILES["edgeloop.yaml"].replace(
        "prepare.py], timeout_s: 5", "prepare.py], inputs: [prepare.py], timeout_s: 5"
    )
    files = {**FILES, "edgeloop.yaml": narrow}
    build_of(files, module_tools, memory)
    again = build_of({**files, "train.py": TRAIN + "# again\n"}, module_tools, memory)
    assert ran(again) == [BuildStage.TRAIN]


def test_a_failing_test_of_the_repository_fails_the_training_with_its_last_lines(changed: Change) -> None:
    with pytest.raises(BuildFailureError, match=r"tests \(python tests\.py\) ended with exit code 1") as caught:
        changed("tests.py", 'print("tested")', 'raise SystemExit("too wide")')
    assert (caught.value.stage, caught.value.last_lines) == (BuildStage.TRAIN, ("too wide",))


def test_a_step_that_reads_the_manifest_without_naming_it_does_not_find_it(changed: Change) -> None:
    with pytest.raises(BuildFailureError, match=r"data\.prepare") as caught:
        changed("prepare.py", "import os\n", "import os\nopen('edgeloop.yaml')\n")
    assert "FileNotFoundError" in caught.value.last_lines[-1]


def test_another_repository_with_equal_inputs_shares_them(
    first: BuildResult, module_tools: Tools, memory: Memory
) -> None:
    other = build_of(FILES, module_tools, memory, project="other")
    assert ran(other) == []
    assert other.digest != first.digest


def test_other_packages_or_variables_run_everything(first: BuildResult, module_tools: Tools, memory: Memory) -> None:
    elsewhere = dataclasses.replace(memory, toolbox=dataclasses.replace(memory.toolbox, environment="other"))
    again = build_of(FILES, module_tools, elsewhere)
    assert ran(again) == list(MAKES)
    assert again.digest == first.digest, "the same bits came out of two builds in two folders"
