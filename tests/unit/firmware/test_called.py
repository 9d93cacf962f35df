"""What is compiled of the kernels: all that a model calls, and nothing that it does not."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from services.artifact_builder.codegen import generate
from services.artifact_builder.firmware.called import called_files
from shared.events.lab import Numerics
from tests.support import ROOT

KERNELS = ROOT / "firmware" / "kernels"
MODELS = ROOT / "tests" / "data" / "models"


def called(folder: Path, files: Mapping[str, str]) -> list[str]:
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    return called_files(folder, [name for name in files if name.endswith(".c")])


def called_by(model: str, numerics: Numerics, folder: Path) -> set[str]:
    generated = generate((MODELS / f"{model}.tflite").read_bytes(), numerics)
    kernels = {file.name: file.read_text("utf-8") for file in KERNELS.iterdir()}
    return set(called(folder, {**kernels, **generated.sources}))


def test_a_call_leads_to_the_file_of_the_kernel_and_on_from_there(tmp_path: Path) -> None:
    files = {
        "model.c": "static void run(void)\n{\n    el_first(x);\n}\n",
        "first.c": "static int el_own(int a)\n{\n}\n\nvoid el_first(int a)\n{\n    el_second(el_own(a));\n}\n",
        "second.c": "EL_SMALL int32_t *el_second(int a)\n{\n    el_first(a);\n}\n",
        "third.c": "void el_third(int a)\n{\n    el_own(a);\n    el_fourth(a);\n}\n",
        "fourth.c": "void el_fourth(int a)\n{\n}\n",
    }
    assert called(tmp_path, files) == ["first.c", "model.c", "second.c"]


def test_no_file_of_kernels_is_compiled_unless_it_is_called(tmp_path: Path) -> None:
    files = {file.name: file.read_text("utf-8") for file in KERNELS.glob("*.c")}
    assert len(files) > 10
    assert called(tmp_path, files) == []


@pytest.mark.parametrize("numerics", list(Numerics))
def test_a_dense_model_needs_no_windows_and_no_memory_cells(numerics: Numerics, tmp_path: Path) -> None:
    found = called_by("autoencoder", numerics, tmp_path)
    assert {"model.c", "weights.c", "conv2d.c", "matrix.c"} <= found
    assert not {"lstm.c", "softmax.c", "pool2d.c", "depthwise_conv2d.c", "svdf.c"} & found
