import io
import zipfile
from pathlib import Path

import pytest

from services.artifact_builder.inputs import sources
from services.artifact_builder.inputs.quantised import NotQuantisedError, named_islands, require_full_int8
from services.artifact_builder.inputs.sources import SourceError, read_source, unpack_saved_model
from shared.releases.model_formats import ModelFormat, model_format

DATA = Path(__file__).parents[2] / "data"


def saved_model(folder: Path) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    (folder / "fingerprint.pb").write_bytes(str(folder).encode())
    return folder


def packed(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("m.keras", ModelFormat.KERAS),
        ("a/m.onnx", ModelFormat.ONNX),
        ("m.tflite", ModelFormat.TFLITE),
        ("saved/", ModelFormat.SAVED_MODEL),
        ("saved.zip", ModelFormat.SAVED_MODEL),
        ("m.pt", None),
        ("saved", None),
    ],
)
def test_a_name_says_its_format(name: str, found: ModelFormat | None) -> None:
    assert model_format(name) is found


def test_a_saved_model_is_the_same_bytes_from_a_folder_and_from_a_zip_of_it(tmp_path: Path) -> None:
    first, second = saved_model(tmp_path / "a"), saved_model(tmp_path / "b")
    zipped = packed(
        tmp_path / "c.zip",
        {f"model/{path.relative_to(first)}": path.read_bytes() for path in first.rglob("*") if path.is_file()},
    )
    data = read_source(first, "a/").data
    assert data == read_source(second, "b/").data == read_source(zipped, "c.zip").data
    unpack_saved_model(data, tmp_path / "again")
    assert (tmp_path / "again" / "variables" / "variables.index").read_bytes() == b"index"
    assert not (tmp_path / "again" / "fingerprint.pb").exists()


@pytest.mark.parametrize("member", ["../saved_model.pb", "/saved_model.pb", "a/../../saved_model.pb"])
def test_a_zip_that_leaves_its_folder_is_refused(member: str, tmp_path: Path) -> None:
    path = packed(tmp_path / "m.zip", {member: b"x", "saved_model.pb": b"graph"})
    with pytest.raises(SourceError, match="allowed are files inside the archive"):
        read_source(path, "m.zip")


def test_a_link_in_a_folder_is_refused(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "m")
    (folder / "assets").mkdir()
    (folder / "assets" / "words").symlink_to("/etc/hostname")
    with pytest.raises(SourceError, match="assets/words is a symbolic link"):
        read_source(folder, "m/")


def test_a_bomb_is_measured_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAXIMUM_MODEL_BYTES", 1_000_000)
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("saved_model.pb", bytes(5_000_000))
    assert path.stat().st_size < 10_000
    with pytest.raises(SourceError, match="has 5,000,000 bytes in all"):
        read_source(path, "m.zip")


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("m.onnx", b"", "is empty"),
        ("m.tflite", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        ("m.zip", b"PK no zip", "not a readable .zip"),
        ("m.keras", b"x", "not a file of Keras 3"),
    ],
)
def test_what_is_no_model_is_named(name: str, data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=says):
        read_source(tmp_path / name, name)


def test_a_damaged_zip_of_a_saved_model_is_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("saved_model.pb", b"graph" * 100)
    data = bytearray(buffer.getvalue())
    data[100] ^= 1
    (tmp_path / "m.zip").write_bytes(data)
    with pytest.raises(SourceError, match="pack the SavedModel's folder again"):
        read_source(tmp_path / "m.zip", "m.zip")


def test_a_model_that_its_author_quantised_is_taken() -> None:
    require_full_int8((DATA / "models" / "dense.tflite").read_bytes(), window=(20,), classes=4)


def test_a_float_tflite_is_refused_with_the_reason() -> None:
    data = (DATA / "gestures" / "float32.tflite").read_bytes()
    with pytest.raises(
        NotQuantisedError, match=r"is a float model .* float32\), and TensorFlow Lite does not quantise"
    ):
        require_full_int8(data, window=(20, 3), classes=3)
    assert named_islands(data)


@pytest.mark.parametrize(("window", "classes", "place"), [((21,), 4, "input"), ((20,), 5, "output")])
def test_a_quantised_model_of_another_shape_is_refused(window: tuple[int, ...], classes: int, place: str) -> None:
    data = (DATA / "models" / "dense.tflite").read_bytes()
    with pytest.raises(NotQuantisedError, match=f"the .tflite's {place}"):
        require_full_int8(data, window=window, classes=classes)
