"""Signed results of lab jobs as files: written by a test, read back with the keys that are trusted."""

from collections.abc import Sequence
from pathlib import Path

from edgeloop.artifacts import trusted_keys
from edgeloop.errors import GateFailedError, UsageError
from edgeloop.layout import Layout
from edgeloop.stack.secrets import ensure_signing_key
from services.artifact_builder.key_uri import SignerError
from services.artifact_builder.signers import signer_for
from shared.artifacts.dsse import EnvelopeError
from shared.interop.history import key_of
from shared.interop.results import JobResult
from shared.interop.signed_results import signed_result, verified_result


def verified_results(files: Sequence[Path], keys: Sequence[Path], data: Path) -> tuple[JobResult, ...]:
    """Return what files say that a trusted key signed: one of `keys`, or else that of the stack in `data`.

    Raises:
        UsageError: a file cannot be read, or there is no key.
        GateFailedError: one cannot be trusted.
    """
    trusted = trusted_keys(keys, data)
    found = []
    for file in files:
        try:
            found.append(verified_result(file.read_bytes(), trusted)[0])
        except OSError as error:
            raise UsageError(f"{file}: {error.strerror}", next_step="name files with signed results") from error
        except EnvelopeError as error:
            raise GateFailedError(
                f"{file}: {error}", next_step="trust nothing it says; name the signer's key with --key if it is another"
            ) from error
    return tuple(found)


def sign(result: JobResult, data: Path) -> bytes:
    """Return a result in its envelope, signed by the key of the stack in `data`, which is made when missing.

    Raises:
        UsageError: the key is none.
    """
    layout = Layout(data)
    ensure_signing_key(layout)
    try:
        signer = signer_for(layout.signing_key)
    except SignerError as error:
        raise UsageError(str(error)) from error
    return signed_result(result, key_id=signer.public_key.key_id, sign=signer.sign)


def strangers(history: Sequence[JobResult], candidate: JobResult) -> tuple[str, ...]:
    """Return what earlier results are of, where no accepted one of them may be compared with the candidate."""
    if any(key_of(result) == key_of(candidate) and result.verdict.accepted for result in history):
        return ()
    return tuple(sorted({f"{', '.join(map(str, key_of(result)))}: {result.verdict}" for result in history}))
