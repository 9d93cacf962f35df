from pathlib import Path
from typing import Any

import pytest

from services.artifact_builder.errors import AuthorError, InfrastructureError
from services.artifact_builder.sandbox.processes import Limits
from services.artifact_builder.source import clone

LIMITS = Limits(wall_s=30)


@pytest.fixture
def git_repository(make_repository: Any, tmp_path: Path) -> tuple[str, str, str, Path]:
    address, first = make_repository({"version": "1"})
    _, second = make_repository({"version": "2"})
    return address, first, second, tmp_path / "checkout"


async def test_exactly_the_commit_is_checked_out(git_repository: Any) -> None:
    address, first, second, into = git_repository
    await clone(address, first, into, limits=LIMITS)
    assert (into / "version").read_text() == "1"
    await clone(address, second, into.with_name("other"), limits=LIMITS)
    assert (into.with_name("other") / "version").read_text() == "2"


async def test_a_commit_that_is_not_there_is_the_authors_to_mend(git_repository: Any) -> None:
    address, _, _, into = git_repository
    with pytest.raises(AuthorError, match=r"has no commit 0123.* Next: push again"):
        await clone(address, "0123" * 10, into, limits=LIMITS)


async def test_a_repository_that_is_not_there_may_come_back(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="cannot be read"):
        await clone((tmp_path / "none").as_uri(), "0" * 40, tmp_path / "checkout", limits=LIMITS)


async def test_a_host_that_does_not_answer_may_come_back_and_tokens_stay_secret(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"https://127\.0\.0\.1:9/a\.git cannot be read") as caught:
        await clone("https://me:token@127.0.0.1:9/a.git", "0" * 40, tmp_path / "checkout", limits=LIMITS)
    assert "token" not in caught.value.reason


@pytest.mark.parametrize("url", ["ext::sh -c id", "/srv/a.git", "--upload-pack=id", "http://forge.example/a"])
async def test_a_scheme_that_is_not_allowed_is_not_tried(url: str, tmp_path: Path) -> None:
    with pytest.raises(AuthorError, match="allowed are https, ssh, file"):
        await clone(url, "0" * 40, tmp_path / "checkout", limits=LIMITS)


async def test_hooks_of_a_template_do_not_run(git_repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address, first, _, into = git_repository
    template = into.with_name("template")
    (template / "hooks").mkdir(parents=True)
    hook = template / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {into.with_name('hooked')}\n")
    hook.chmod(0o755)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(template))
    await clone(address, first, into, limits=LIMITS)
    assert not into.with_name("hooked").exists()
