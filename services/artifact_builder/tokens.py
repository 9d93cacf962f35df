"""Signs in a PKCS#11 token: a hardware security module, a smart card, or SoftHSM. The key never leaves it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import load_der_public_key

from services.artifact_builder.key_uri import NEXT, KeyUri, SignerError, parse_key_uri
from shared.artifacts.keys import PublicKey, public_key_of

_PROCESS: Final = "services.artifact_builder.token_process"
_ROOT: Final = Path(__file__).parents[2]
_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True)
class TokenSigner:
    """A private key in a token; each signature opens a session of its own, so that a token may come and go."""

    public_key: PublicKey
    uri: str = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """Return the signature. Raises SignerError when the token does not give one."""
        request = {"uri": self.uri, "message": message.hex(), "algorithm": self.public_key.algorithm.value}
        return bytes.fromhex(_asked(parse_key_uri(self.uri), request)["signature"])


def open_token_signer(uri: str) -> TokenSigner:
    """Find the key that a URI names, and read its public half.

    Raises:
        SignerError: what is missing: module, token, PIN, key.
    """
    parsed = parse_key_uri(uri)
    der = bytes.fromhex(_asked(parsed, {"uri": uri})["public"])
    return TokenSigner(public_key_of(load_der_public_key(der), parsed.described), uri)


def _asked(uri: KeyUri, request: Mapping[str, str]) -> dict[str, str]:
    """Ask the process that speaks to the token."""
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-m", _PROCESS],
            input=json.dumps(request),
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SignerError(f"{uri.described}: no answer within {_TIMEOUT_S:g} s. Next: look at the token") from error
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise SignerError(
            f"{uri.described}: the PKCS#11 module {uri.module} ended its process with {done.returncode}; it said: "
            f"{last[0]}. {NEXT}"
        )
    answer: dict[str, str] = json.loads(done.stdout)
    if "error" in answer:
        raise SignerError(answer["error"])
    return answer
