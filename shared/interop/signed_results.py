"""A job's result as an in-toto statement in a DSSE envelope, which anybody who has the key checks offline.

Source: in-toto attestation framework, statement v1; predicate test-result v0.1. What the predicate does not know stands
under ``edgeloop``, which its rules allow: readers ignore fields they do not know.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.artifacts.dsse import EnvelopeError, enveloped, opened, unverified
from shared.artifacts.keys import PublicKey
from shared.artifacts.provenance import Subject
from shared.events import CheckOutcome
from shared.interop.results import JobResult
from shared.lab import VerdictKind

_RESULTS: Final = {
    VerdictKind.PASSED: "PASSED",
    VerdictKind.FLAKY: "WARNED",
    VerdictKind.FAILED: "FAILED",
    # The predicate has no word for a test that judged nothing: it does not pass, and `edgeloop` says why.
    VerdictKind.INFRASTRUCTURE: "WARNED",
}


class Signature(StrEnum):
    """How far a result is known to be what its signer wrote."""

    VERIFIED = "verified"
    UNTRUSTED = "untrusted"
    """Signed by a key that is not trusted, or altered afterwards."""
    UNSIGNED = "unsigned"
    """The lab had no key to sign with."""
    UNCHECKED = "unchecked"
    """Signed, and there was no key at hand to check it with."""


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A result as it was found. `said`: why it is not verified."""

    result: JobResult
    signature: Signature
    said: str = ""


class _Part(BaseModel):
    # Field names are the specification's own.
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class _Configuration(_Part):
    name: str


class _Predicate(_Part):
    result: Literal["PASSED", "WARNED", "FAILED"]
    configuration: tuple[_Configuration, ...]
    passedTests: tuple[str, ...]  # noqa: N815
    warnedTests: tuple[str, ...]  # noqa: N815
    failedTests: tuple[str, ...]  # noqa: N815
    edgeloop: JobResult


class _Statement(_Part):
    type_: Literal["https://in-toto.io/Statement/v1"] = Field(
        default="https://in-toto.io/Statement/v1", serialization_alias="_type", validation_alias="_type"
    )
    subject: tuple[Subject, ...] = Field(min_length=1, max_length=1)
    predicateType: Literal["https://in-toto.io/attestation/test-result/v0.1"] = (  # noqa: N815
        "https://in-toto.io/attestation/test-result/v0.1"
    )
    predicate: _Predicate


def signed_result(result: JobResult, *, key_id: str, sign: Callable[[bytes], bytes]) -> bytes:
    """Return the envelope, as JSON. Equal results and a deterministic signer give equal bytes."""
    return enveloped(unsigned_result(result), key_id=key_id, sign=sign)


def unsigned_result(result: JobResult) -> bytes:
    """Return the statement alone, as JSON: what a lab keeps that has no key."""
    return _statement(result).model_dump_json(by_alias=True).encode()


def read_result(document: bytes, trusted: Sequence[PublicKey]) -> ReadResult:
    """Return what a document of `signed_result` or `unsigned_result` says, and how far to trust it.

    Raises:
        EnvelopeError: it is neither, or contradicts itself.
    """
    if b'"payloadType"' not in document:
        return ReadResult(_result_in(document), Signature.UNSIGNED, "the lab had no key to sign it with")
    if not trusted:
        said = "no key is at hand to check it with"
        return ReadResult(_result_in(unverified(document)), Signature.UNCHECKED, said)
    try:
        return ReadResult(verified_result(document, trusted)[0], Signature.VERIFIED)
    except EnvelopeError as error:
        return ReadResult(_result_in(unverified(document)), Signature.UNTRUSTED, str(error))


def verified_result(envelope: bytes, trusted: Sequence[PublicKey]) -> tuple[JobResult, PublicKey]:
    """Return the result that an envelope holds, and the trusted key that signed it.

    Raises:
        EnvelopeError: no trusted key signed it, it is no job's result, or its parts contradict one another.
    """
    payload, key = opened(envelope, trusted)
    return _result_in(payload), key


def _result_in(payload: bytes) -> JobResult:
    try:
        statement = _Statement.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise EnvelopeError(f"the statement is no job's result: {place}: {first['msg']}") from error
    result = statement.predicate.edgeloop
    if statement != _statement(result):
        raise EnvelopeError(
            f"the statement contradicts itself: its summary is not what the result of job {result.job} comes to"
        )
    return result


def _statement(result: JobResult) -> _Statement:
    algorithm, _, value = result.digest.partition(":")
    names = {outcome: [check.name for check in result.checks if check.outcome is outcome] for outcome in CheckOutcome}
    predicate = _Predicate.model_validate(
        {
            "result": _RESULTS[result.verdict],
            "configuration": [{"name": f"{result.board_class}:{result.board}"}],
            "passedTests": names[CheckOutcome.PASSED],
            "warnedTests": names[CheckOutcome.INSUFFICIENT_EVIDENCE],
            "failedTests": names[CheckOutcome.FAILED],
            "edgeloop": result,
        }
    )
    return _Statement(subject=(Subject(name=result.project, digest={algorithm: value}),), predicate=predicate)
