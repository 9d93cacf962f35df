import io
import zipfile

import pytest

from services.artifact_builder.inputs import canonical
from services.artifact_builder.inputs.canonical import canonical_keras


def keras_file(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {"metadata.json": b"{}", "config.json": b"{}", **members}.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_bomb_is_measured_and_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical, "MAXIMUM_UNPACKED_BYTES", 1_000_000)
    with pytest.raises(ValueError, match=r"2,000,004 bytes unpacked, allowed are 1,000,000"):
        canonical_keras(keras_file(**{"model.weights.h5": bytes(2_000_000)}))


@pytest.mark.parametrize("config", [b"[" * 100_000, b'{"a":' * 990 + b"1" + b"}" * 990, b"\xff", b"{"])
def test_a_configuration_that_is_no_sane_json_is_the_authors_error(config: bytes) -> None:
    try:
        canonical_keras(keras_file(**{"config.json": config}))
    except ValueError as error:
        assert "not a file of Keras 3" in str(error)  # noqa: PT017 - the deep one may just fit


def test_metadata_that_is_no_object_is_the_authors_error() -> None:
    with pytest.raises(ValueError, match="not a file of Keras 3"):
        canonical_keras(keras_file(**{"metadata.json": b"[]"}))
