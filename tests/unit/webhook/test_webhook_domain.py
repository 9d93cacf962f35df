"""The dialects of the forges, read from the same table that the service uses."""

import hashlib
import hmac
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.source_webhook.domain import (
    DIALECTS,
    FieldError,
    Ignored,
    MalformedError,
    Ping,
    Push,
    SignatureError,
    check_signature,
    delivery_of,
    project_of,
    read_webhook,
)
from shared.events import derived_id
from shared.events.source import Forge

SECRET = "a secret of many characters"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
GITHUB_BODY = {
    "ref": "refs/heads/main",
    "before": "0" * 40,
    "after": COMMIT,
    "repository": {"full_name": "acme/gait", "clone_url": "https://github.example/acme/gait.git"},
    "pusher": {"name": "ada"},
}
GITLAB_BODY = {
    "object_kind": "push",
    "ref": "refs/heads/main",
    "after": COMMIT,
    "user_username": "ada",
    "project": {"path_with_namespace": "acme/gait", "git_http_url": "https://gitlab.example/acme/gait.git"},
}
GITEA_BODY = GITHUB_BODY | {"pusher": {"login": "ada"}}
PUSHES: dict[Forge, tuple[dict[str, str], dict[str, Any]]] = {
    Forge.GITHUB: ({"x-github-event": "push", "x-github-delivery": "d-1"}, GITHUB_BODY),
    Forge.GITLAB: ({"x-gitlab-event": "Push Hook", "x-gitlab-event-uuid": "d-1"}, GITLAB_BODY),
    Forge.GITEA: ({"x-gitea-event": "push", "x-gitea-delivery": "d-1"}, GITEA_BODY),
}
HEX = hmac.new(SECRET.encode(), b"body", hashlib.sha256).hexdigest()


@pytest.mark.parametrize("forge", Forge)
def test_a_push_of_a_branch_is_read_in_every_dialect(forge: Forge) -> None:
    headers, body = PUSHES[forge]
    meaning = read_webhook(DIALECTS[forge], headers, json.dumps(body).encode())
    assert isinstance(meaning, Push)
    payload = meaning.payload
    assert (payload.project, payload.commit, payload.ref, payload.pusher) == (
        "acme-gait",
        COMMIT,
        "refs/heads/main",
        "ada",
    )
    assert payload.repository.endswith("/acme/gait.git")
    assert meaning.event_id == derived_id(forge, "d-1")


@pytest.mark.parametrize(
    ("forge", "header", "value"),
    [
        (Forge.GITHUB, "x-hub-signature-256", f"sha256={HEX}"),
        (Forge.GITLAB, "x-gitlab-token", SECRET),
        (Forge.GITEA, "x-gitea-signature", HEX),
        (Forge.GITEA, "x-forgejo-signature", HEX),
    ],
)
def test_a_right_signature_passes_and_one_changed_character_does_not(forge: Forge, header: str, value: str) -> None:
    check_signature(DIALECTS[forge], SECRET, {header: value}, b"body")
    changed = value[:-1] + ("0" if value[-1] != "0" else "1")
    with pytest.raises(SignatureError, match="does not match"):
        check_signature(DIALECTS[forge], SECRET, {header: changed}, b"body")


@pytest.mark.parametrize("forge", [Forge.GITHUB, Forge.GITEA])
def test_a_signature_of_another_body_does_not_pass(forge: Forge) -> None:
    header = DIALECTS[forge].proof_headers[0]
    value = f"sha256={HEX}" if forge is Forge.GITHUB else HEX
    with pytest.raises(SignatureError):
        check_signature(DIALECTS[forge], SECRET, {header: value}, b"body!")


@pytest.mark.parametrize("value", ["", "sha256=", "sha256=ÿ", "md5=00", "ÿ" * 64])
def test_a_strange_signature_is_refused_and_never_crashes(value: str) -> None:
    with pytest.raises(SignatureError):
        check_signature(DIALECTS[Forge.GITHUB], SECRET, {"x-hub-signature-256": value}, b"body")


def test_sha1_alone_is_refused_with_the_reason() -> None:
    sha1 = "sha1=" + hmac.new(SECRET.encode(), b"body", hashlib.sha1).hexdigest()
    with pytest.raises(SignatureError, match="SHA-1"):
        check_signature(DIALECTS[Forge.GITHUB], SECRET, {"x-hub-signature": sha1}, b"body")


@pytest.mark.parametrize("forge", Forge)
def test_no_signature_is_refused_and_the_secret_is_never_repeated(forge: Forge) -> None:
    with pytest.raises(SignatureError, match="missing") as caught:
        check_signature(DIALECTS[forge], SECRET, {}, b"body")
    assert SECRET not in str(caught.value)


def test_githubs_ping_is_a_ping() -> None:
    assert read_webhook(DIALECTS[Forge.GITHUB], {"x-github-event": "ping"}, b"{}") == Ping()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"after": "0" * 40}, "refs/heads/main was deleted"),
        ({"after": "0" * 64}, "refs/heads/main was deleted"),
        ({"ref": "refs/tags/v1"}, "refs/tags/v1 is not a branch"),
    ],
)
def test_deletions_and_tags_are_ignored_with_the_reason(change: dict[str, str], reason: str) -> None:
    headers, body = PUSHES[Forge.GITHUB]
    meaning = read_webhook(DIALECTS[Forge.GITHUB], headers, json.dumps(body | change).encode())
    assert isinstance(meaning, Ignored)
    assert reason in meaning.reason


def test_an_unrelated_event_is_ignored_with_its_name() -> None:
    meaning = read_webhook(DIALECTS[Forge.GITLAB], {"x-gitlab-event": "Tag Push Hook"}, b"not even JSON")
    assert isinstance(meaning, Ignored)
    assert "Tag Push Hook" in meaning.reason


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"payload=%7B%7D", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedError):
        read_webhook(DIALECTS[Forge.GITHUB], PUSHES[Forge.GITHUB][0], body)


@pytest.mark.parametrize(
    ("forge", "change", "named"),
    [
        (Forge.GITHUB, {"ref": None}, "ref"),
        (Forge.GITHUB, {"ref": 7}, "ref"),
        (Forge.GITHUB, {"after": "abc"}, "after"),
        (Forge.GITHUB, {"after": COMMIT.upper()}, "after"),
        (Forge.GITHUB, {"repository": "acme/gait"}, "repository.clone_url"),
        (Forge.GITHUB, {"repository": {"clone_url": "https://x.example/y"}}, "repository.full_name"),
        (Forge.GITHUB, {"repository": {"full_name": "a/b", "clone_url": "ext::sh -c id"}}, "repository.clone_url"),
        (Forge.GITHUB, {"repository": {"full_name": "a/b", "clone_url": "--upload-pack=id"}}, "repository.clone_url"),
        (Forge.GITLAB, {"project": {}}, "project.git_http_url"),
        (Forge.GITEA, {"repository": {}}, "repository.clone_url"),
    ],
)
def test_a_missing_or_wrong_field_is_named(forge: Forge, change: dict[str, Any], named: str) -> None:
    headers, body = PUSHES[forge]
    with pytest.raises(FieldError, match=f"^{re.escape(named)} is "):
        read_webhook(DIALECTS[forge], headers, json.dumps(body | change).encode())


def test_a_delivery_without_an_event_header_names_the_header() -> None:
    with pytest.raises(FieldError, match="x-github-event"):
        read_webhook(DIALECTS[Forge.GITHUB], {}, b"{}")


def test_without_a_delivery_header_the_body_itself_is_the_delivery() -> None:
    assert delivery_of(DIALECTS[Forge.GITHUB], {}, b"body") == hashlib.sha256(b"body").hexdigest()


def test_gitlabs_idempotency_key_comes_before_its_event_uuid() -> None:
    headers = {"idempotency-key": "key", "x-gitlab-event-uuid": "uuid"}
    assert delivery_of(DIALECTS[Forge.GITLAB], headers, b"") == "key"


@given(st.sampled_from(list(Forge)), st.binary(max_size=200))
def test_no_body_crashes_the_reader(forge: Forge, body: bytes) -> None:
    try:
        meaning = read_webhook(DIALECTS[forge], PUSHES[forge][0], body)
    except (MalformedError, FieldError):
        return
    assert isinstance(meaning, Ignored)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(list(Forge)), st.sampled_from(["ref", "after", "repository", "project", "pusher"]), JSON_VALUES)
def test_no_value_of_a_field_crashes_the_reader(forge: Forge, field: str, value: object) -> None:
    headers, body = PUSHES[forge]
    try:
        read_webhook(DIALECTS[forge], headers, json.dumps(body | {field: value}).encode())
    except FieldError as error:
        assert field in str(error)  # noqa: PT017 - both outcomes are allowed


SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@given(st.text(min_size=1, max_size=200))
def test_every_repository_name_gives_a_valid_project(full_name: str) -> None:
    assert SLUG.fullmatch(project_of(full_name))


NAMES = st.from_regex(r"[a-z0-9.-]{1,4}/[a-z0-9._/-]{1,12}", fullmatch=True)


@given(NAMES, NAMES)
def test_different_repositories_are_different_projects(one: str, other: str) -> None:
    assert (project_of(one) == project_of(other)) == (one == other)


@pytest.mark.parametrize(
    ("full_name", "project"),
    [
        ("acme/gait", "acme-gait"),
        ("ACME/Gait", "acme-gait"),
        ("local/exercise-recognition", "local-exercise-recognition"),
    ],
)
def test_clean_names_stay_readable(full_name: str, project: str) -> None:
    assert project_of(full_name) == project


@pytest.mark.parametrize(
    "full_name", ["my-team/gait", "acme/gait.v2", "acme/sub/gait", "gait", "acme/gait-deadbeef", "a/" + "b" * 80]
)
def test_ambiguous_names_get_a_suffix(full_name: str) -> None:
    assert re.fullmatch(r".+-[0-9a-f]{8}", project_of(full_name))
