"""One artifact of the gesture model, signed by a key that is trusted, and ways to tamper with copies of it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from services.artifact_builder.signers import Signer
from shared.artifacts.keys import PublicKey
from shared.artifacts.layout import write_layout
from shared.artifacts.oci import ArtifactFile
from tests.data.gestures.artifact import gestures_artifact, new_signer

MakeDirectory = Callable[[], Path]


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return new_signer(tmp_path_factory.mktemp("keys"))[0]


@pytest.fixture(scope="session")
def trusted(signer: Signer) -> tuple[PublicKey, ...]:
    return (signer.public_key,)


@pytest.fixture(scope="session")
def files(signer: Signer) -> tuple[ArtifactFile, ...]:
    return gestures_artifact(signer)


@pytest.fixture(scope="session")
def exported(files: tuple[ArtifactFile, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that no test changes for good."""
    folder = tmp_path_factory.mktemp("exported") / "artifact"
    write_layout(folder, files[-1].data, {file.blob.digest: file.data for file in files}.__getitem__)
    return folder


@pytest.fixture
def directory(exported: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copytree(exported, tmp_path / "artifact"))
