"""Every procedure on real firmware: sound, and with faults that each must find."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import pytest

from services.artifact_builder.codegen import GeneratedModel, generate
from services.artifact_builder.firmware.compiling import PLAYBACK, compile_firmware
from services.artifact_builder.firmware.signing import generate_key, sign_image
from shared.boards import image_board
from shared.emulation import EmulationError
from shared.emulation.emulators import Emulator
from shared.events import CheckOutcome, digest_of
from shared.inference.tflm import tflm_outputs
from shared.procedures import Effort, ProcedureError, Report, Rig, SensorWindows, Workload
from shared.procedures.perturbations import PERTURBATIONS
from shared.procedures.playback import windows_of
from shared.procedures.rig import emulated_rig
from shared.procedures.table import PROCEDURES
from shared.releases.histograms import quantise
from tests.data.gestures.release import INT8, quantisation, windows

M4 = image_board("cortex-m4")
Build = Callable[..., Rig]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, zig_cache: Path) -> Build:
    """Build the gesture model's firmware, changed or not, for a board."""
    folder = tmp_path_factory.mktemp("procedures")
    generate_key(folder / "signing.pem", folder / "signing.pub.pem")

    def make(
        body: str = "", *, board: str = "cortex-m4", emulator: Emulator = Emulator.UNICORN, playback: bool = True
    ) -> Rig:
        compiled = compile_firmware(
            _with_entry(body),
            image_board(board),
            model_digest=digest_of(INT8),
            defines=(PLAYBACK,) if playback else (),
            workdir=Path(mkdtemp(dir=folder)),
            cache_dir=zig_cache,
        )
        signed = sign_image(
            compiled.binary,
            image_board(board),
            version="1.0.0",
            model_digest=digest_of(INT8),
            key=folder / "signing.pem",
        )
        return emulated_rig(signed.data, image_board(board), emulator)

    return make


@pytest.fixture(scope="module")
def workload() -> Workload:
    x, y = windows(60, 5)
    inputs = quantise(x, quantisation("input")).reshape(60, -1)
    return Workload(M4, digest_of(INT8), inputs, tflm_outputs(INT8, inputs), y, accuracy=0.9)


@pytest.fixture(scope="module")
def sensor_windows() -> SensorWindows:
    x, _ = windows(60, 5)
    return SensorWindows(x, quantisation("input"), {"accelerometer": (0, 1, 2)})


def _with_entry(body: str) -> GeneratedModel:
    """Return the model with something that it does before every inference."""
    model = generate(INT8)
    source = model.sources["model.c"]
    entry = "void model_invoke(void)\n{\n"
    assert entry in source
    return dataclasses.replace(
        model, sources={**model.sources, "model.c": source.replace(entry, f"{entry}    {body}\n")}
    )


def failed(report: Report) -> list[str]:
    return [check.name for check in report.checks if check.outcome is not CheckOutcome.PASSED]


@pytest.mark.parametrize("name", PROCEDURES)
def test_sound_firmware_passes_every_procedure(
    name: str, build: Build, workload: Workload, sensor_windows: SensorWindows
) -> None:
    report = PROCEDURES[name].run(workload, build(), Effort(inferences=120, reset_every=25, windows=sensor_windows))
    assert (report.procedure, report.board, failed(report)) == (name, "cortex-m4", [])
    assert report.emulator.startswith("unicorn ")


@pytest.mark.parametrize("name", ["smoke", "endurance", "playback"])
def test_qemu_gives_the_same_verdicts(name: str, build: Build, workload: Workload) -> None:
    rig = build(emulator=Emulator.QEMU)
    try:
        report = PROCEDURES[name].run(workload, rig, Effort(inferences=30, reset_every=10))
    except EmulationError as error:
        if "is not installed" in str(error):
            pytest.skip(str(error))
        raise
    assert failed(report) == []
    assert report.emulator.startswith("qemu ")


def test_an_acceptance_test_measures_what_the_firmware_takes(build: Build, workload: Workload) -> None:
    figures = PROCEDURES["acceptance"].run(workload, build(), Effort()).figures
    low, high = figures["accuracy_interval"]  # type: ignore[misc, str-unpack]
    assert low < figures["accuracy"] < high or figures["accuracy"] == high == 1  # type: ignore[operator]
    assert figures["instructions"] > 1512  # type: ignore[operator] # more than one for each multiply-accumulate
    assert figures["stack_bytes"] > 0  # type: ignore[operator]
    again = PROCEDURES["acceptance"].run(workload, build(), Effort()).figures
    assert again == figures


def test_a_wrong_output_now_and_then_is_found_by_endurance_and_not_by_a_smoke_test(
    build: Build, workload: Workload
) -> None:
    body = "static int count; if (++count == 9) for (int i = 0; i < 60; i++) model_input()[i] ^= 0x55;"
    rig = build(body)
    assert failed(PROCEDURES["smoke"].run(workload, rig, Effort())) == []
    report = PROCEDURES["endurance"].run(workload, rig, Effort(inferences=50, reset_every=20))
    assert failed(report) == ["endurance-bits-cortex-m4"]
    assert report.figures["wrong"] == 2


def test_a_stack_that_grows_with_use_is_found_by_endurance(build: Build, workload: Workload) -> None:
    body = (
        "static int count; volatile char room[16 * ++count]; "
        "room[0] = 1; for (int i = 0; i < 16 * count; i++) room[i] = 2;"
    )
    report = PROCEDURES["endurance"].run(workload, build(body), Effort(inferences=60, reset_every=60))
    assert "endurance-stack-cortex-m4" in failed(report)


def test_a_fault_after_a_while_ends_an_endurance_run_with_its_place(build: Build, workload: Workload) -> None:
    body = "static int count; if (++count == 7) (void)*(volatile int *)0xA0000000u;"
    report = PROCEDURES["endurance"].run(workload, build(body), Effort(inferences=50, reset_every=20))
    ends = next(check for check in report.checks if check.name == "endures-cortex-m4")
    assert ends.outcome is CheckOutcome.FAILED
    assert "inference 6: the firmware faulted at pc" in ends.observed


def test_a_trace_with_a_hop_is_cut_into_its_windows(build: Build, workload: Workload) -> None:
    hop = 3 * 3  # three samples of three channels
    trace = workload.inputs[:5].reshape(-1)
    inputs = windows_of(trace, 60, hop)
    moving = dataclasses.replace(workload, inputs=inputs, expected=tflm_outputs(INT8, inputs), labels=None)
    report = PROCEDURES["playback"].run(moving, build(), Effort(hop_bytes=hop))
    assert failed(report) == []
    assert report.figures["windows"] == len(inputs) == 27


def test_a_playback_without_a_reader_says_what_to_compile(build: Build, workload: Workload) -> None:
    with pytest.raises(ProcedureError, match="compile it with EL_PLAYBACK"):
        PROCEDURES["playback"].run(workload, build(playback=False), Effort())


def test_variability_is_worse_the_farther_from_neutral_and_the_same_again(
    build: Build, workload: Workload, sensor_windows: SensorWindows
) -> None:
    rig = build()
    report = PROCEDURES["variability"].run(workload, rig, Effort(windows=sensor_windows))
    points = report.figures["points"]
    assert isinstance(points, list)
    assert len(points) == sum(len(perturbation.levels) for perturbation in PERTURBATIONS.values())
    by_level = {(p["perturbation"], p["level"]): p["accuracy"] for p in points if isinstance(p, dict)}
    clean = report.figures["accuracy"]
    for name, perturbation in PERTURBATIONS.items():
        assert by_level[name, perturbation.neutral] == clean
    assert by_level["rate", -0.2] < clean  # type: ignore[operator] # gestures differ in frequency
    assert PROCEDURES["variability"].run(workload, rig, Effort(windows=sensor_windows)) == report


@pytest.mark.parametrize("name", ["acceptance", "variability"])
def test_what_needs_labels_says_so(name: str, build: Build, workload: Workload) -> None:
    unlabelled = dataclasses.replace(workload, labels=None)
    with pytest.raises(ProcedureError, match="give labels"):
        PROCEDURES[name].run(unlabelled, build(), Effort())


def test_rows_repeat_when_there_are_fewer_than_inferences(build: Build, workload: Workload) -> None:
    few = dataclasses.replace(workload, inputs=workload.inputs[:3], expected=workload.expected[:3])
    report = PROCEDURES["endurance"].run(few, build(), Effort(inferences=10, reset_every=4))
    assert failed(report) == []
    assert (report.figures["inferences"], report.figures["boots"]) == (10, 3)


def test_an_endurance_run_ends_with_its_time(build: Build, workload: Workload) -> None:
    from shared.procedures.endurance import observe

    clock = iter(range(1000))
    board = build().boot()
    found = observe(board, workload, Effort(reset_every=5, seconds=3.5), clock=lambda: float(next(clock)))
    board.close()
    assert found.inferences == 15


def test_an_effort_of_nothing_is_refused(build: Build, workload: Workload) -> None:
    with pytest.raises(ProcedureError, match="must be at least 1"):
        PROCEDURES["endurance"].run(workload, build(), Effort(inferences=0))
