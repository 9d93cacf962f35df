"""Signing in SoftHSM, a PKCS#11 token in software: images, artifacts, and what a wrong setting says."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.artifact_builder.firmware.signing import sign_image
from services.artifact_builder.key_uri import SignerError
from services.artifact_builder.signers import signer_for
from services.artifact_builder.tools import Tools
from shared.artifacts.keys import KeyAlgorithm, signer_of
from shared.artifacts.verify import verify
from shared.boards import image_board
from shared.emulation.mcuboot_image import read_image
from shared.events import CheckOutcome
from tests.data.gestures.artifact import gestures_artifact

PIN = "94718263"
MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
KEYS = {"ecdsa": KeyAlgorithm.ECDSA_P256, "eddsa": KeyAlgorithm.ED25519}


@dataclass(frozen=True)
class Token:
    module: str
    pin: Path

    def uri(self, key: str, *, token: str = "edgeloop", pin: Path | None = None) -> str:
        return f"pkcs11:token={token};object={key}?pin-source={pin or self.pin}&module-path={self.module}"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    module = next((path for path in MODULES if Path(path).exists()), None)
    if module is None or not shutil.which("softhsm2-util") or not shutil.which("pkcs11-tool"):
        pytest.skip("softhsm2-util, libsofthsm2.so or pkcs11-tool is missing: apt install softhsm2 opensc")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    (folder / "pin").write_text(f"{PIN}\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    try:
        _run("softhsm2-util", "--init-token", "--free", "--label", "edgeloop", "--pin", PIN, "--so-pin", "0000")
        for label, curve in (("ecdsa", "EC:prime256v1"), ("eddsa", "EC:edwards25519")):
            login = ("pkcs11-tool", "--module", module, "--token-label", "edgeloop", "--login", "--pin", PIN)
            _run(*login, "--keypairgen", "--key-type", curve, "--label", label)
        yield Token(module, folder / "pin")
    finally:
        if before is None:
            del os.environ["SOFTHSM2_CONF"]
        else:
            os.environ["SOFTHSM2_CONF"] = before


@pytest.mark.parametrize("label", KEYS)
def test_an_image_signed_in_a_token_is_verified_with_the_tokens_public_key(token: Token, label: str) -> None:
    signer = signer_for(token.uri(label))
    assert signer.public_key.algorithm is KEYS[label]
    image = sign_image(
        bytes(600), image_board("cortex-m4"), version="1.0.0+1", model_digest="sha256:" + "00" * 32, key=signer
    )
    assert signer_of(read_image(image.data), [signer.public_key]) == signer.public_key


@pytest.mark.parametrize("label", KEYS)
def test_an_artifact_signed_in_a_token_passes_every_check_and_holds_no_pin(token: Token, label: str) -> None:
    signer = signer_for(token.uri(label))
    files = gestures_artifact(signer)
    blobs = {file.blob.digest: file.data for file in files}
    checks = verify(files[-1].data, lambda file: blobs[file.digest], [signer.public_key])
    assert [check for check in checks if check.outcome is not CheckOutcome.PASSED] == []
    assert not [file.name for file in files if PIN.encode() in file.data or str(token.pin).encode() in file.data]
    assert PIN not in repr(signer)


def test_equal_artifacts_have_equal_digests_with_ed25519(token: Token) -> None:
    signer = signer_for(token.uri("eddsa"))
    assert gestures_artifact(signer)[-1].data == gestures_artifact(signer)[-1].data


def test_the_builders_tools_take_a_token_for_a_key_file(token: Token, tmp_path: Path) -> None:
    tools = Tools(signing_key=token.uri("eddsa"), compiler_cache=tmp_path)
    assert tools.public_key() == tools.signer().public_key.der


def test_a_wrong_pin_is_said_without_it(token: Token, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("13577531")
    with pytest.raises(SignerError, match="refuses the PIN") as refused:
        signer_for(token.uri("ecdsa", pin=tmp_path / "pin"))
    assert "13577531" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"key": "other"}, "not exactly one private key of that name"),
        ({"key": "ecdsa", "token": "other"}, "there are .*edgeloop"),
        ({"key": "ecdsa", "pin": Path("/nowhere/pin")}, "pin-source /nowhere/pin cannot be read"),
    ],
)
def test_what_is_not_there_is_named(token: Token, changes: dict[str, object], said: str) -> None:
    with pytest.raises(SignerError, match=said):
        signer_for(token.uri(**changes))  # type: ignore[arg-type]


def test_a_module_that_is_missing_is_named() -> None:
    pytest.importorskip("pkcs11", reason="python-pkcs11 is missing: pip install 'edgeloop[pkcs11]'")
    with pytest.raises(SignerError, match=r"/none\.so cannot be loaded"):
        signer_for("pkcs11:token=a;object=b?module-path=/none.so")


def test_a_module_that_crashes_takes_only_its_own_process_along(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("cc is missing: apt install gcc")
    (tmp_path / "crash.c").write_text("#include <stdlib.h>\nint C_GetFunctionList(void **list) { abort(); }\n")
    _run(compiler, "-shared", "-fPIC", "-w", "-o", str(tmp_path / "crash.so"), str(tmp_path / "crash.c"))
    with pytest.raises(SignerError, match=r"crash\.so ended its process with -6"):
        signer_for(f"pkcs11:token=edgeloop;object=ecdsa?module-path={tmp_path / 'crash.so'}")
