"""Compilers: the same bytes every time, clear errors, both toolchains."""

import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from services.artifact_builder.codegen import GeneratedModel, generate
from services.artifact_builder.firmware.compilers import CompilerError, CompilerUnavailableError
from services.artifact_builder.firmware.compiling import CompiledFirmware, DoesNotFitError, compile_firmware
from services.artifact_builder.firmware.signing import sign_image
from services.artifact_builder.firmware.toolchains import Toolchain
from shared.artifacts.evidence import RefusedError
from shared.artifacts.images import check_elf
from shared.boards import ImageBoard, image_board, image_boards
from tests.data.gestures.artifact import new_signer

_DIGEST = "sha256:" + "ab" * 32
Compile = Callable[..., CompiledFirmware]


@pytest.fixture(scope="module")
def model(models: Path) -> GeneratedModel:
    return generate((models / "cnn_1d.tflite").read_bytes())


@pytest.fixture
def build(tmp_path: Path, zig_cache: Path) -> Compile:
    def run(
        model: GeneratedModel, board: ImageBoard, toolchain: Toolchain = Toolchain.ZIG, folder: str = "work"
    ) -> CompiledFirmware:
        workdir = tmp_path / folder
        workdir.mkdir()
        return compile_firmware(
            model, board, model_digest=_DIGEST, toolchain=toolchain, workdir=workdir, cache_dir=zig_cache
        )

    return run


@pytest.mark.parametrize("name", image_boards())
def test_two_folders_give_identical_firmware(name: str, model: GeneratedModel, build: Compile) -> None:
    one = build(model, image_board(name), folder="one")
    other = build(model, image_board(name), folder="a-longer-name")
    assert one == other


def test_two_folders_give_identical_firmware_with_gcc(model: GeneratedModel, build: Compile, gcc: Toolchain) -> None:
    one = build(model, image_board("cortex-m4"), gcc, "one")
    other = build(model, image_board("cortex-m4"), gcc, "a-longer-name")
    assert one == other
    assert one.toolchain.startswith("gcc ")


def test_sizes_are_those_of_the_parts(model: GeneratedModel, build: Compile) -> None:
    firmware = build(model, image_board("cortex-m4"))
    assert firmware.flash_bytes == len(firmware.binary)
    assert model.weights_bytes < firmware.flash_bytes < model.weights_bytes + 20_000
    assert model.arena_bytes + model.input_bytes < firmware.ram_bytes < model.arena_bytes + model.input_bytes + 1000
    assert firmware.toolchain.startswith("zig 0.")
    assert firmware.elf.startswith(b"\x7fELF")
    assert _DIGEST.encode() in firmware.binary


@pytest.mark.parametrize("toolchain", list(Toolchain))
def test_model_and_kernels_have_a_section_of_their_own(
    toolchain: Toolchain, model: GeneratedModel, build: Compile, models: Path, request: pytest.FixtureRequest
) -> None:
    if toolchain is Toolchain.GCC:
        request.getfixturevalue("gcc")
    firmware = build(model, image_board("cortex-m4"), toolchain)
    assert model.weights_bytes < firmware.model_flash_bytes < model.weights_bytes + 8_000
    larger = generate((models / "residual_2d.tflite").read_bytes())
    other = build(larger, image_board("cortex-m4"), toolchain, "larger")
    assert larger.weights_bytes < other.model_flash_bytes
    # What is outside is the command line and start-up, which differ by the facts that `info%` tells.
    one, two = (built.flash_bytes - built.model_flash_bytes for built in (firmware, other))
    assert abs(one - two) <= 64


@pytest.mark.parametrize("toolchain", list(Toolchain))
def test_the_elf_loads_what_the_signed_image_holds_and_not_what_another_does(
    toolchain: Toolchain, model: GeneratedModel, build: Compile, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if toolchain is Toolchain.GCC:
        request.getfixturevalue("gcc")
    signer, _ = new_signer(tmp_path / "keys")
    built = {name: build(model, image_board(name), toolchain, name) for name in ("cortex-m4", "cortex-m33")}
    for name, firmware in built.items():
        board = image_board(name)
        image = sign_image(firmware.binary, board, version="1.0.0+1", model_digest=_DIGEST, key=signer)
        check_elf(firmware.elf, image.data, name, name="firmware.elf")
        for other in built.keys() - {name}:
            with pytest.raises(RefusedError, match=f"{name}: firmware.elf"):
                check_elf(built[other].elf, image.data, name, name="firmware.elf")


def test_keyword_spotting_and_all_around_it_take_no_more_flash_than_promised(mlperf: Path, build: Compile) -> None:
    keywords = generate((mlperf / "models" / "kws_ref_model.tflite").read_bytes())
    assert build(keywords, image_board("cortex-m4")).flash_bytes <= 31_500


@pytest.mark.parametrize("toolchain", list(Toolchain))
def test_a_variable_that_start_up_would_have_to_fill_does_not_link(
    toolchain: Toolchain, model: GeneratedModel, build: Compile, request: pytest.FixtureRequest
) -> None:
    if toolchain is Toolchain.GCC:
        request.getfixturevalue("gcc")
    source = model.sources["model.c"].replace(
        "void model_reset(void)\n{", "volatile int filled = 3;\nvoid model_reset(void)\n{\n    filled++;"
    )
    assert "filled++" in source
    with pytest.raises(CompilerError, match="a variable has an initial value"):
        build(
            dataclasses.replace(model, sources={**model.sources, "model.c": source}),
            image_board("cortex-m4"),
            toolchain,
        )


def test_firmware_holds_no_path_of_the_machine(model: GeneratedModel, build: Compile, tmp_path: Path) -> None:
    firmware = build(model, image_board("cortex-m4"))
    for part in (firmware.binary, firmware.elf):
        assert str(tmp_path).encode() not in part


@pytest.mark.parametrize("toolchain", list(Toolchain))
def test_too_little_flash_is_told_in_bytes(
    toolchain: Toolchain, model: GeneratedModel, build: Compile, request: pytest.FixtureRequest
) -> None:
    if toolchain is Toolchain.GCC:
        request.getfixturevalue("gcc")
    board = image_board("cortex-m4").model_copy(update={"slot_bytes": 0x3000})
    needed = build(model, image_board("cortex-m4"), toolchain, "fits").flash_bytes
    with pytest.raises(DoesNotFitError, match="does not fit cortex-m4: flash needs") as caught:
        build(model, board, toolchain)
    (flash,) = caught.value.shortages
    assert flash.available_bytes == 0x3000 - 0x200 - 0x1000
    assert abs(flash.needed_bytes - needed) <= 64


@pytest.mark.parametrize("toolchain", list(Toolchain))
def test_too_little_ram_is_told_in_bytes(
    toolchain: Toolchain, model: GeneratedModel, build: Compile, request: pytest.FixtureRequest
) -> None:
    if toolchain is Toolchain.GCC:
        request.getfixturevalue("gcc")
    board = image_board("cortex-m0plus").model_copy(update={"ram_bytes": 0x1800})
    needed = build(model, image_board("cortex-m0plus"), toolchain, "fits").ram_bytes + board.stack_bytes
    with pytest.raises(DoesNotFitError, match="RAM needs") as caught:
        build(model, board, toolchain)
    (ram,) = caught.value.shortages
    assert (ram.region, ram.available_bytes) == ("RAM", 0x1800)
    assert abs(ram.needed_bytes - needed) <= 64


def test_too_little_of_both_names_both(model: GeneratedModel, build: Compile) -> None:
    board = image_board("cortex-m0plus").model_copy(update={"slot_bytes": 0x2000, "ram_bytes": 0x1100})
    with pytest.raises(DoesNotFitError, match=r"flash needs [\d,]+ bytes and has 3,584; RAM needs [\d,]+ .* 4,352"):
        build(model, board)


def test_what_the_compiler_said_is_in_the_error(model: GeneratedModel, build: Compile) -> None:
    broken = dataclasses.replace(model, sources={**model.sources, "model.c": "#error told you so\n"})
    with pytest.raises(CompilerError, match="told you so") as caught:
        build(broken, image_board("cortex-m4"))
    assert "Edgeloop's fault, not the repository's" in str(caught.value)


def test_a_missing_compiler_is_named(model: GeneratedModel, build: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CompilerUnavailableError, match="apt-get install gcc-arm-none-eabi"):
        build(model, image_board("cortex-m4"), Toolchain.GCC)


def test_a_digest_is_checked_before_it_becomes_source(model: GeneratedModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a model digest is sha256:"):
        compile_firmware(
            model, image_board("cortex-m4"), model_digest='"evil', toolchain=Toolchain.ZIG, workdir=tmp_path
        )


@pytest.mark.usefixtures("gcc")
def test_the_sources_compile_without_a_warning(model: GeneratedModel, build: Compile, tmp_path: Path) -> None:
    build(model, image_board("cortex-m4"), Toolchain.GCC)
    folder = tmp_path / "work"
    sources = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*.c"))]
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]
    for core in ("cortex-m0plus", "cortex-m4"):
        done = subprocess.run(
            [
                "arm-none-eabi-gcc", "-mthumb", f"-mcpu={core}", "-O2", "-ffreestanding", "-fsyntax-only", *warnings,
                *(f"-I{name}" for name in ("kernels", "platform", "app", "model")), *sources,
            ],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stderr == ""


@pytest.mark.parametrize("name", image_boards())
@pytest.mark.usefixtures("qemu")
def test_qemu_boots_the_elf_as_it_is(name: str, model: GeneratedModel, build: Compile, tmp_path: Path) -> None:
    board = image_board(name)
    elf = tmp_path / "firmware.elf"
    elf.write_bytes(build(model, board).elf)
    emulation = board.emulation
    machine = ["-M", emulation.qemu_machine, "-cpu", emulation.qemu_cpu, "-kernel", str(elf)]
    command = ["qemu-system-arm", *machine, "-display", "none", "-monitor", "none", "-serial", "stdio"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as qemu:
        assert qemu.stdout is not None
        lines = iter(qemu.stdout.readline, b"")
        said = next((line for line in lines if line.strip() == b"m-ready"), b"")
        qemu.kill()
    assert said.strip() == b"m-ready"
