"""Signed results: read back by whoever trusts the key, refused when anything was altered."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.artifacts.dsse import EnvelopeError
from shared.artifacts.keys import PublicKey
from shared.events import Check, CheckOutcome
from shared.interop.results import JobResult
from shared.interop.signed_results import Signature, read_result, signed_result, unsigned_result, verified_result
from shared.lab import VerdictKind
from tests.support_interop import job_result

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"7" * 32)
KEY = PublicKey(PRIVATE.public_key())
STRANGER = PublicKey(Ed25519PrivateKey.from_private_bytes(b"8" * 32).public_key())


def signed(result: JobResult) -> bytes:
    return signed_result(result, key_id=KEY.key_id, sign=PRIVATE.sign)


def statement_of(envelope: bytes) -> Any:
    return json.loads(base64.b64decode(json.loads(envelope)["payload"]))


@pytest.mark.parametrize("verdict", VerdictKind)
def test_a_result_comes_back_as_it_was(verdict: VerdictKind) -> None:
    check = Check(name="parity", outcome=CheckOutcome.PASSED, observed="0", allowed="0 mismatches")
    result = job_result(verdict=verdict, checks=(check,), reason="é")
    assert verified_result(signed(result), [KEY]) == (result, KEY)
    assert signed(result) == signed(result)


def test_it_is_an_in_toto_test_result() -> None:
    statement = statement_of(signed(job_result()))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert statement["subject"] == [{"name": "kws", "digest": {"sha256": "5a" * 32}}]
    assert statement["predicate"]["result"] == "PASSED"


def test_an_infrastructure_failure_neither_passes_nor_fails() -> None:
    statement = statement_of(signed(job_result(verdict=VerdictKind.INFRASTRUCTURE)))
    assert statement["predicate"]["result"] == "WARNED"


def test_an_altered_result_is_refused() -> None:
    envelope = json.loads(signed(job_result(verdict=VerdictKind.FAILED)))
    payload = base64.b64decode(envelope["payload"]).replace(b'"failed"', b'"passed"')
    altered = envelope | {"payload": base64.b64encode(payload).decode()}
    with pytest.raises(EnvelopeError, match="altered"):
        verified_result(json.dumps(altered).encode(), [KEY])


def test_a_stranger_s_signature_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="trusted are"):
        verified_result(signed(job_result()), [STRANGER])


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("predicate", "result"), "FAILED", "contradicts itself"),
        (("predicateType",), "https://slsa.dev/provenance/v1", "no job's result: predicateType"),
        (("predicate", "edgeloop", "finished"), "2026-11-01T12:00:00", "no time zone"),
    ],
)
def test_a_signed_lie_is_refused(path: tuple[str, ...], value: str, said: str) -> None:
    from shared.artifacts.dsse import enveloped

    statement = statement_of(signed(job_result()))
    place = statement
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    envelope = enveloped(json.dumps(statement).encode(), key_id=KEY.key_id, sign=PRIVATE.sign)
    with pytest.raises(EnvelopeError, match=said):
        verified_result(envelope, [KEY])


@pytest.mark.parametrize(
    ("trusted", "signature", "said"),
    [
        ([KEY], Signature.VERIFIED, ""),
        ([], Signature.UNCHECKED, "no key is at hand"),
        ([STRANGER], Signature.UNTRUSTED, f"signed by key {KEY.key_id}"),
    ],
)
def test_a_result_is_read_whoever_signed_it_and_says_how_far_to_trust_it(
    trusted: list[PublicKey], signature: Signature, said: str
) -> None:
    found = read_result(signed(job_result()), trusted)
    assert (found.result, found.signature) == (job_result(), signature)
    assert said in found.said


def test_a_lab_without_a_key_says_so() -> None:
    result = job_result(reason='{"payloadType": "no envelope"}')
    found = read_result(unsigned_result(result), [KEY])
    assert (found.result, found.signature) == (result, Signature.UNSIGNED)


def test_what_is_no_result_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="no job's result"):
        read_result(b"{}", [KEY])
