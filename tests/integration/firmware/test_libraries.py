"""Libraries for boards without a toolchain: they compile, and compute the reference's bits where they can be run."""

import ast
import dataclasses
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from ruamel.yaml import YAML

from services.artifact_builder.codegen import GeneratedModel, generate
from services.artifact_builder.firmware.compiling import DoesNotFitError
from services.artifact_builder.firmware.libraries import LibraryPackage, ModelFacts, build_libraries
from services.artifact_builder.firmware.libraries.contents import c_string
from shared.boards import LibraryBoard, LibraryKind, catalogue
from shared.events.device import GoldenVector
from shared.releases.histograms import quantise

Reference = Callable[[bytes, NDArray[np.int8]], list[bytes]]
Host = Callable[..., Path]

_OUTSIDE = Path(__file__).with_name("outside")
_BOARDS = {name: board for name, board in catalogue().items() if isinstance(board, LibraryBoard)}
_TARGETS = [(name, target.kind) for name, board in _BOARDS.items() for target in board.libraries]
_MOTION_CHANNELS = ("ax", "ay", "az", "gx", "gy", "gz")
_STRICT = ("-Wall", "-Wextra", "-Werror", "-O0")


@pytest.fixture(scope="module")
def tflite(models: Path) -> bytes:
    return (models / "cnn_1d.tflite").read_bytes()


@pytest.fixture(scope="module")
def model(tflite: bytes) -> GeneratedModel:
    return generate(tflite)


@pytest.fixture(scope="module")
def facts(tflite: bytes, model: GeneratedModel, tflm: Reference) -> ModelFacts:
    row = np.random.default_rng(3).integers(-128, 128, (1, model.input_bytes), np.int8)
    golden = GoldenVector(input=row.tobytes(), output=tflm(tflite, row)[0])
    labels = tuple(f"class-{index}" for index in range(model.output_bytes))
    return ModelFacts("gesture-demo", "1.2.3", "sha256:" + "ab" * 32, golden, labels)


@pytest.fixture(scope="module")
def make(
    model: GeneratedModel, facts: ModelFacts, tmp_path_factory: pytest.TempPathFactory, zig_cache: Path
) -> Callable[..., LibraryPackage]:
    built: dict[tuple[str, ModelFacts], tuple[LibraryPackage, ...]] = {}

    def run(name: str, kind: LibraryKind, facts: ModelFacts = facts, *, again: bool = False) -> LibraryPackage:
        if again or (name, facts) not in built:
            workdir = tmp_path_factory.mktemp("library")
            built[name, facts] = build_libraries(model, facts, _BOARDS[name], workdir=workdir, cache_dir=zig_cache)
        return next(package for package in built[name, facts] if package.target.kind is kind)

    return run


@dataclasses.dataclass(frozen=True)
class Compilers:
    """Of this machine, or Zig's."""

    c: list[str]
    cpp: list[str]
    ar: list[str]
    environment: Mapping[str, str]


@pytest.fixture(scope="module")
def compilers(zig_cache: Path) -> Compilers:
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(zig_cache), "ZIG_LOCAL_CACHE_DIR": str(zig_cache)}
    if all(map(shutil.which, ("gcc", "g++", "ar"))):
        return Compilers(["gcc"], ["g++"], ["ar"], environment)
    zig = [sys.executable, "-m", "ziglang"]
    return Compilers([*zig, "cc"], [*zig, "c++"], [*zig, "ar"], environment)


@pytest.fixture(scope="module")
def host(compilers: Compilers, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Compile for this machine, and return the program."""

    def compile_(folder: Path, *arguments: str, sketch: Path | None = None) -> Path:
        """C sources below `folder`, and a sketch as C++ when there is one."""
        out = tmp_path_factory.mktemp("host")
        sources = [str(source) for source in sorted(folder.rglob("*.c"))]
        objects = []
        for source in () if sketch is None else (sketch, _OUTSIDE / "arduino" / "run.cpp"):
            flags = ["-x", "c++", "-include", "Arduino.h", "-fno-exceptions", "-fno-rtti", *_STRICT, *arguments]
            objects.append(str(out / f"{source.stem}.o"))
            _run([*compilers.cpp, *flags, "-c", str(source), "-o", objects[-1]], compilers.environment)
        command = [*compilers.c, "-std=c99", *_STRICT, *arguments, *sources, *objects, "-o", str(out / "program")]
        _run(command, compilers.environment)
        return out / "program"

    return compile_


def _run(command: list[str], environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _unpacked(package: LibraryPackage, folder: Path) -> Path:
    """Unpack the archive, and return its root folder."""
    with zipfile.ZipFile(io.BytesIO(package.archive)) as archive:
        archive.extractall(folder)
        (root,) = {PurePosixPath(name).parts[0] for name in archive.namelist()}
    return folder / root


@pytest.mark.parametrize(("name", "kind"), _TARGETS)
def test_an_archive_has_one_folder_a_licence_and_the_same_bytes_each_time(
    name: str, kind: LibraryKind, make: Callable[..., LibraryPackage], tmp_path: Path
) -> None:
    package = make(name, kind)
    assert package.archive == make(name, kind, again=True).archive
    root = _unpacked(package, tmp_path)
    assert root.name == "EdgeloopGestureDemo"
    assert (root / "LICENSE").read_text("utf-8") == (Path(__file__).parents[3] / "LICENSE").read_text("utf-8")
    readme = (root / "README.md").read_text("utf-8")
    for said in (_BOARDS[name].reason, package.target.target.split()[0], "sha256:" + "ab" * 32, "class-0, class-1"):
        assert said in readme
    assert not any("@" in line for path in root.rglob("*.h") for line in path.read_text("utf-8").splitlines())


@pytest.mark.parametrize(("name", "kind"), _TARGETS)
def test_sizes_are_measured_where_there_is_a_compiler(
    name: str, kind: LibraryKind, make: Callable[..., LibraryPackage], model: GeneratedModel
) -> None:
    package = make(name, kind)
    if not _BOARDS[name].core.startswith("cortex-m"):
        assert package.sizes is None
        return
    assert package.sizes is not None
    assert model.weights_bytes < package.sizes.flash_bytes < model.weights_bytes + 16_000
    assert model.arena_bytes <= package.sizes.ram_bytes < model.arena_bytes + 64


@pytest.mark.parametrize("kind", list(LibraryKind))
def test_the_self_test_passes_on_this_machine_and_fails_for_another_golden_vector(
    kind: LibraryKind, make: Callable[..., LibraryPackage], facts: ModelFacts, host: Host, tmp_path: Path
) -> None:
    name = next(name for name, of in _TARGETS if of is kind)
    right = facts.golden.output
    wrong = GoldenVector(input=facts.golden.input, output=bytes([right[0] ^ 1]) + right[1:])
    for golden, differing in ((facts.golden, 0), (wrong, 1)):
        root = _unpacked(make(name, kind, dataclasses.replace(facts, golden=golden)), tmp_path / str(differing))
        sources = root / "src"
        (sources / "harness.c").write_text(
            '#include "edgeloop.h"\n#include <stdio.h>\n'
            'int main(void) { printf("%d %s", (int)edgeloop_self_test(), edgeloop_label(0)); return 0; }\n'
        )
        program = host(sources, f"-I{root / 'include'}", f"-I{sources / 'edgeloop'}")
        assert _run([str(program)]) == f"{differing} class-0"


def test_the_vendor_s_makefile_tests_itself(
    make: Callable[..., LibraryPackage], compilers: Compilers, tmp_path: Path
) -> None:
    root = _unpacked(make("himax-we-i-plus", LibraryKind.MAKE), tmp_path)
    tools = [f"CC={' '.join(compilers.c)}", f"AR={' '.join(compilers.ar)}"]
    assert "self-test passed" in _run(["make", "-C", str(root), "check", *tools], compilers.environment)
    assert "arc-elf32-gcc -mcpu=em4_fpus" in _run(["make", "-C", str(root), "-n", "-B"])


@pytest.mark.parametrize(
    ("compiler", "package", "flags"),
    [
        (
            "arc-linux-gnu-gcc",
            "gcc-arc-linux-gnu",
            _BOARDS["himax-we-i-plus"].libraries[0].target.split()[1:],
        ),
        # Not the ESP32's LX6, but the nearest Xtensa core that a registry has a compiler for.
        ("xtensa-lx106-elf-gcc", "gcc-xtensa-lx106", ["-mlongcalls"]),
    ],
)
def test_the_c_compiles_for_cores_that_zig_does_not_know(
    compiler: str, package: str, flags: list[str], make: Callable[..., LibraryPackage], tmp_path: Path
) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed; `apt-get install {package}` gets it")
    root = _unpacked(make("himax-we-i-plus", LibraryKind.MAKE), tmp_path)
    for source in sorted((root / "src").glob("*.c")):
        always = ["-std=c99", "-O2", "-ffreestanding", "-fwrapv", "-Wall", "-Wextra", "-Werror"]
        _run([compiler, *flags, *always, f"-I{root / 'include'}", "-c", str(source), "-o", str(tmp_path / "x.o")])


def test_an_arduino_sketch_runs_the_self_test(make: Callable[..., LibraryPackage], host: Host, tmp_path: Path) -> None:
    root = _unpacked(make("arduino-mkr-wifi-1010", LibraryKind.ARDUINO), tmp_path)
    sketch = root / "examples" / "SelfTest" / "SelfTest.ino"
    program = host(root / "src", f"-I{_OUTSIDE / 'arduino'}", f"-I{root / 'src'}", sketch=sketch)
    said = _run([str(program)])
    assert "self-test passed" in said
    assert "one inference takes, in microseconds: 500" in said


@pytest.mark.parametrize("channels", [_MOTION_CHANNELS, _MOTION_CHANNELS[:3]])
def test_an_arduino_sketch_reads_the_motion_sensor_that_the_model_wants(
    channels: tuple[str, ...], make: Callable[..., LibraryPackage], facts: ModelFacts, host: Host, tmp_path: Path
) -> None:
    shape = (len(facts.golden.input) // len(channels), len(channels))
    moving = dataclasses.replace(facts, shape=shape, channels=channels)
    root = _unpacked(make("arduino-nano-33-ble-sense", LibraryKind.ARDUINO, moving), tmp_path)
    assert "depends=Arduino_LSM9DS1\n" in (root / "library.properties").read_text("utf-8")
    sketch = root / "examples" / "Motion" / "Motion.ino"
    program = host(root / "src", f"-I{_OUTSIDE / 'arduino'}", f"-I{root / 'src'}", sketch=sketch)
    passed, prediction = _run([str(program)]).splitlines()
    assert passed.startswith("self-test passed")
    index, label, _ = prediction.split()
    assert label == f"class-{index}"


def test_a_model_of_something_else_gets_a_sketch_without_a_sensor(
    make: Callable[..., LibraryPackage], facts: ModelFacts
) -> None:
    sound = dataclasses.replace(facts, shape=(len(facts.golden.input), 1), channels=("microphone",))
    files = make("arduino-nano-33-ble-sense", LibraryKind.ARDUINO, sound).files
    assert "EdgeloopGestureDemo/examples/SelfTest/SelfTest.ino" in files
    assert "depends" not in files["EdgeloopGestureDemo/library.properties"]


def test_library_properties_are_what_arduino_asks_for(make: Callable[..., LibraryPackage]) -> None:
    for name, kind in _TARGETS:
        if kind is LibraryKind.ARDUINO:
            text = make(name, kind).files["EdgeloopGestureDemo/library.properties"]
            properties = dict(line.split("=", 1) for line in text.splitlines() if line)
            assert properties["name"] == "EdgeloopGestureDemo"
            assert properties["version"] == "1.2.3"
            assert properties["category"] == "Data Processing"
            assert properties["includes"] == "EdgeloopGestureDemo.h"
            assert f":{properties['architectures']}:" in _BOARDS[name].libraries[0].target
            assert {"author", "maintainer", "sentence", "paragraph", "url"} <= set(properties)


@pytest.mark.parametrize(
    ("name", "kind"), [target for target in _TARGETS if target[1] in (LibraryKind.ZEPHYR, LibraryKind.ESP_IDF)]
)
def test_cmake_names_every_source_and_every_include_folder(
    name: str, kind: LibraryKind, make: Callable[..., LibraryPackage], tmp_path: Path
) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed; `apt-get install cmake` gets it")
    root = _unpacked(make(name, kind), tmp_path)
    said = _run(["cmake", f"-DLIST={root / 'CMakeLists.txt'}", "-P", str(_OUTSIDE / "read_cmake.cmake")])
    facts = [line.split("=", 1) for line in said.splitlines()]
    sources = sorted(value for key, value in facts if key == "source")
    assert sources == sorted(str(path.relative_to(root)) for path in (root / "src").glob("*.c"))
    assert {value for key, value in facts if key == "include"} == {"src", "include"}
    assert "-fwrapv" in [value for key, value in facts if key == "option"]


def test_a_zephyr_module_confirms_itself_when_its_bits_are_right(
    make: Callable[..., LibraryPackage], host: Host, tmp_path: Path
) -> None:
    root = _unpacked(make("arduino-portenta-h7", LibraryKind.ZEPHYR), tmp_path)
    module = YAML(typ="safe").load(root / "zephyr" / "module.yml")
    assert module == {"name": "edgeloop_gesture_demo", "build": {"cmake": ".", "kconfig": "Kconfig"}}
    for file in (root / "sample" / "prj.conf", root / "sample" / "sysbuild.conf"):
        settings = [line for line in file.read_text("utf-8").splitlines() if line and not line.startswith("#")]
        assert all(line.startswith(("CONFIG_", "SB_CONFIG_")) and "=" in line for line in settings)
        assert len({line.split("=")[0] for line in settings}) == len(settings)
    program = host(root, f"-I{_OUTSIDE / 'zephyr'}", f"-I{root / 'include'}")
    assert "[outside] boot_write_img_confirmed\nimage confirmed\n" in _run([str(program)])


def test_an_esp_idf_example_cancels_the_rollback_only_when_its_bits_are_right(
    make: Callable[..., LibraryPackage], facts: ModelFacts, host: Host, tmp_path: Path
) -> None:
    wrong = GoldenVector(input=facts.golden.input, output=bytes(len(facts.golden.output)))
    for number, (golden, expected) in enumerate(((facts.golden, "valid"), (wrong, "invalid"))):
        library = make("espressif-esp-eye", LibraryKind.ESP_IDF, dataclasses.replace(facts, golden=golden))
        root = _unpacked(library, tmp_path / str(number))
        component = YAML(typ="safe").load(root / "idf_component.yml")
        assert (component["version"], component["targets"]) == ("1.2.3", ["esp32"])
        shutil.copy(_OUTSIDE / "esp_idf" / "run.c", root / "run.c")
        program = host(root, f"-I{_OUTSIDE / 'esp_idf'}", f"-I{root / 'include'}")
        assert f"[outside] {expected}\n" in _run([str(program)])


def test_a_sensor_s_value_becomes_the_byte_that_datasets_have(
    make: Callable[..., LibraryPackage], model: GeneratedModel, host: Host, tmp_path: Path
) -> None:
    root = _unpacked(make("himax-we-i-plus", LibraryKind.MAKE), tmp_path)
    step = np.float32(model.input.scale)
    halves = (np.arange(-300, 300, dtype=np.float32) + np.float32(0.5)) * step
    values = np.concatenate([halves, np.random.default_rng(5).normal(0, 40, 500).astype(np.float32) * step])
    values = np.append(values, np.array([0, -0.0, 1e30, -1e30, np.inf, -np.inf], np.float32))
    (root / "src" / "harness.c").write_text(
        '#include "edgeloop.h"\n#include <stdio.h>\n'
        "int main(void) { float value; while (fread(&value, 4, 1, stdin) == 1) {\n"
        '    printf("%d ", edgeloop_quantise(value)); } return 0; }\n'
    )
    program = host(root / "src", f"-I{root / 'include'}")
    done = subprocess.run([str(program)], input=values.tobytes(), capture_output=True, check=True)
    assert [int(word) for word in done.stdout.split()] == quantise(values, model.input).tolist()


def test_a_model_that_cannot_fit_is_refused_with_the_numbers(
    model: GeneratedModel, facts: ModelFacts, tmp_path: Path, zig_cache: Path
) -> None:
    board = _BOARDS["arduino-nano-33-iot"]
    small = board.libraries[0].model_copy(update={"program_bytes": 4096, "data_bytes": 512})
    with pytest.raises(DoesNotFitError, match=r"arduino-nano-33-iot: flash needs [\d,]+ .* RAM needs [\d,]+ .* 512"):
        build_libraries(
            model, facts, board.model_copy(update={"libraries": (small,)}), workdir=tmp_path, cache_dir=zig_cache
        )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"golden": GoldenVector(input=b"1", output=b"2")}, "has 1 and 1 bytes; the model takes 600"),
        ({"labels": ("one",)}, "1 labels for 7 outputs"),
    ],
)
def test_facts_of_another_model_are_refused(
    changes: dict[str, object], says: str, model: GeneratedModel, facts: ModelFacts, tmp_path: Path
) -> None:
    wrong = dataclasses.replace(facts, **changes)  # type: ignore[arg-type]  # of two types
    with pytest.raises(ValueError, match=says):
        build_libraries(model, wrong, _BOARDS["himax-we-i-plus"], workdir=tmp_path, cache_dir=tmp_path)


@given(text=st.text())
def test_a_label_is_a_c_string_whatever_it_holds(text: str) -> None:
    literal = c_string(text)
    assert literal.isascii()
    assert "?" not in literal
    assert ast.literal_eval(f"b{literal}").decode() == text
