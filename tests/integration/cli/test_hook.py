"""The post-receive hook, run by real pushes."""

import json
import os
import re
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from edgeloop.cli import execute
from edgeloop.errors import UsageError
from edgeloop.git import git
from edgeloop.githook import install
from services.source_webhook.domain import DIALECTS, Ignored, Push, check_signature, read_webhook
from shared.events.source import Forge

SECRET = "a secret of many characters"


@dataclass
class Receiver:
    """A webhook receiver: what came, and what to answer."""

    url: str = ""
    status: int = 202
    deliveries: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def meanings(self) -> list[Push | Ignored]:
        return [read_webhook(DIALECTS[Forge.GITHUB], *delivery) for delivery in self.deliveries]  # type: ignore[misc]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.deliveries.append(({name.lower(): value for name, value in self.headers.items()}, body))
            answer = json.dumps({"run_id": "r-1", "project": "p"} if found.status < 300 else {"error": "no"}).encode()
            self.send_response(found.status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}/webhooks/github"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Repositories:
    bare: Path
    clone: Path

    def commit(self, name: str) -> str:
        (self.clone / name).write_text(name)
        git(self.clone, "add", "--all")
        git(self.clone, "commit", "--quiet", "--message", name)
        return git(self.clone, "rev-parse", "HEAD")

    def push(self, *references: str) -> str:
        return git(self.clone, "push", "origin", *references)


@pytest.fixture
def repositories(tmp_path: Path) -> Repositories:
    found = Repositories(bare=tmp_path / "gait.git", clone=tmp_path / "clone")
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", str(found.bare))
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", str(found.clone))
    git(found.clone, "remote", "add", "origin", str(found.bare))
    return found


def test_a_push_delivers_a_signed_webhook_and_shows_the_run(repositories: Repositories, receiver: Receiver) -> None:
    installed = install(repositories.bare, url=receiver.url, secret=SECRET)
    commit = repositories.commit("a")
    said = repositories.push("main")
    ((headers, body),) = receiver.deliveries
    check_signature(DIALECTS[Forge.GITHUB], SECRET, headers, body)
    (push,) = receiver.meanings
    assert isinstance(push, Push)
    assert (push.payload.commit, push.payload.ref) == (commit, "refs/heads/main")
    assert (push.payload.project, push.payload.repository) == (installed.project, repositories.bare.as_uri())
    assert "run r-1" in said
    assert SECRET not in said


def test_every_branch_is_told_deletions_too_and_tags_are_not(repositories: Repositories, receiver: Receiver) -> None:
    install(repositories.bare, url=receiver.url, secret=SECRET)
    repositories.commit("a")
    git(repositories.clone, "branch", "other")
    git(repositories.clone, "tag", "v1")
    repositories.push("main", "other", "v1")
    assert {json.loads(body)["ref"] for _, body in receiver.deliveries} == {"refs/heads/main", "refs/heads/other"}
    assert len({headers["x-github-delivery"] for headers, _ in receiver.deliveries}) == 2
    receiver.deliveries.clear()
    repositories.push("--delete", "other")
    (meaning,) = receiver.meanings
    assert meaning == Ignored("refs/heads/other was deleted")


def test_a_refused_webhook_is_shown_and_the_push_still_counts(repositories: Repositories, receiver: Receiver) -> None:
    install(repositories.bare, url=receiver.url, secret="another secret entirely")
    receiver.status = 401
    commit = repositories.commit("a")
    said = repositories.push("main")
    assert "NOT told about this push" in said
    assert "401" in said
    assert git(repositories.bare, "rev-parse", "main") == commit
    assert len(receiver.deliveries) == 1


def test_a_server_error_is_tried_again_under_the_same_delivery(repositories: Repositories, receiver: Receiver) -> None:
    install(repositories.bare, url=receiver.url, secret=SECRET)
    receiver.status = 503
    repositories.commit("a")
    assert "503" in repositories.push("main")
    assert len(receiver.deliveries) == 4
    assert len({headers["x-github-delivery"] for headers, _ in receiver.deliveries}) == 1


def test_nobody_listening_is_shown_and_the_push_still_counts(repositories: Repositories) -> None:
    install(repositories.bare, url="http://127.0.0.1:9/webhooks/github", secret=SECRET)
    commit = repositories.commit("a")
    said = repositories.push("main")
    assert "see that `edgeloop up` runs" in said
    assert git(repositories.bare, "rev-parse", "main") == commit


def test_who_was_not_told_is_told_by_the_command_that_was_shown(repositories: Repositories, receiver: Receiver) -> None:
    install(repositories.bare, url=receiver.url, secret=SECRET)
    receiver.status = 401
    commit = repositories.commit("a")
    said = repositories.push("main")
    assert "NOT told about this push" in said
    assert "Next: `edgeloop hook install` again" in said
    receiver.status = 202
    receiver.deliveries.clear()
    (command,) = re.findall("then say `([^`]+)`", said.replace("\n", " "))
    told = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert "run r-1" in told.stderr
    (push,) = receiver.meanings
    assert isinstance(push, Push)
    assert push.payload.commit == commit


def test_secret_and_address_are_for_the_owner_only(repositories: Repositories) -> None:
    installed = install(repositories.bare, url="http://127.0.0.1:9/", secret=SECRET)
    for file in (repositories.bare / "edgeloop").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.access(installed.hook, os.X_OK)
    assert SECRET not in installed.hook.read_text()


def test_a_foreign_hook_is_kept_unless_forced_and_our_own_is_renewed(repositories: Repositories) -> None:
    hook = repositories.bare / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho mine\n")
    with pytest.raises(UsageError, match="did not write") as caught:
        install(repositories.bare, url="http://127.0.0.1:9/", secret=SECRET)
    assert "--force" in caught.value.next_step
    assert "mine" in hook.read_text()
    install(repositories.bare, url="http://127.0.0.1:9/", secret=SECRET, force=True)
    install(repositories.bare, url="http://127.0.0.1:10/", secret=SECRET)
    assert "127.0.0.1:10" in (repositories.bare / "edgeloop" / "webhook.json").read_text()


def test_a_working_copy_takes_the_hook_in_its_git_directory(repositories: Repositories) -> None:
    installed = install(repositories.clone, url="http://127.0.0.1:9/", secret=SECRET)
    assert installed.hook == repositories.clone / ".git" / "hooks" / "post-receive"


def test_the_pusher_is_told_the_command_that_shows_the_run(
    repositories: Repositories, receiver: Receiver, tmp_path: Path
) -> None:
    install(repositories.bare, url=receiver.url, secret=SECRET, data=tmp_path / "my stack")
    repositories.commit("a")
    assert f"edgeloop run watch --data '{tmp_path / 'my stack'}' r-1" in repositories.push("main")


def test_a_folder_inside_a_repository_is_not_taken_for_it(repositories: Repositories) -> None:
    (repositories.clone / "models.git").mkdir()
    with pytest.raises(UsageError, match="a folder inside a repository"):
        install(repositories.clone / "models.git", url="http://127.0.0.1:9/", secret=SECRET)


def test_a_linked_worktree_names_the_repository_whose_hooks_it_has(repositories: Repositories, tmp_path: Path) -> None:
    repositories.commit("a")
    git(repositories.clone, "worktree", "add", str(tmp_path / "linked"))
    with pytest.raises(UsageError, match="a linked worktree") as caught:
        install(tmp_path / "linked", url="http://127.0.0.1:9/", secret=SECRET)
    assert str(repositories.clone / ".git") in caught.value.message


def test_a_repository_whose_hooks_git_takes_from_elsewhere_is_refused_until_it_has_its_own(
    repositories: Repositories,
) -> None:
    git(repositories.bare, "config", "core.hooksPath", "/elsewhere")
    with pytest.raises(UsageError, match=r"core\.hooksPath, /elsewhere") as caught:
        install(repositories.bare, url="http://127.0.0.1:9/", secret=SECRET)
    assert f"config core.hooksPath {repositories.bare / 'hooks'}" in caught.value.next_step
    git(repositories.bare, "config", "core.hooksPath", str(repositories.bare / "hooks"))
    assert install(repositories.bare, url="http://127.0.0.1:9/", secret=SECRET).hook.is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "--url", "http://127.0.0.1:9/"], "no such directory"),
        (["empty", "--url", "http://127.0.0.1:9/"], "not a git repository"),
        (["gait.git", "--url", "ftp://127.0.0.1/"], "http or https"),
    ],
)
@pytest.mark.usefixtures("repositories")
def test_bad_arguments_of_hook_install_are_usage_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    repository = str(tmp_path / arguments[0])
    assert execute(["hook", "install", repository, *arguments[1:], "--secret-file", str(secret)]) == 2
    assert said in capsys.readouterr().err


def test_hook_install_prints_what_it_did_as_json(
    repositories: Repositories, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    arguments = ["hook", "install", str(repositories.bare), "--url", "http://127.0.0.1:9/", "--json"]
    assert execute([*arguments, "--secret-file", str(secret), "--name", "acme/gait"]) == 0
    assert json.loads(capsys.readouterr().out)["project"] == "acme-gait"


def test_an_address_without_a_secret_is_bad_input(
    repositories: Repositories, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["hook", "install", str(repositories.bare), "--url", "http://127.0.0.1:9/"]
    assert execute([*arguments, "--data", str(tmp_path)]) == 2
    assert "--secret-file" in capsys.readouterr().err
    empty = tmp_path / "secret"
    empty.write_text("\n")
    assert execute([*arguments, "--secret-file", str(empty)]) == 2
    assert "is empty" in capsys.readouterr().err
