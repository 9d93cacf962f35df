import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.artifact_builder.sandbox.engines import STRONG, Engine, Mode, NoSandboxError, choose, is_trusted

URL = "https://forge.example/acme/fan.git"
NONE = dict.fromkeys(STRONG, "not installed")
BOTH = dict.fromkeys(STRONG, "")
ONLY_BUBBLEWRAP = {Engine.CONTAINER: "no engine answers", Engine.BUBBLEWRAP: ""}


@pytest.mark.parametrize("trusted", [True, False])
def test_auto_takes_the_strongest_that_works_for_trusted_repositories_too(trusted: bool) -> None:
    assert choose(Mode.AUTO, BOTH, repository=URL, trusted=trusted) is Engine.CONTAINER
    assert choose(Mode.AUTO, ONLY_BUBBLEWRAP, repository=URL, trusted=trusted) is Engine.BUBBLEWRAP


def test_a_trusted_repository_runs_as_a_process_only_where_nothing_else_works_or_when_asked_for() -> None:
    assert choose(Mode.AUTO, NONE, repository=URL, trusted=True) is Engine.PROCESS
    assert choose(Mode.PROCESS, BOTH, repository=URL, trusted=True) is Engine.PROCESS


@given(
    mode=st.sampled_from(Mode),
    troubles=st.fixed_dictionaries({engine: st.sampled_from(["", "broken"]) for engine in STRONG}),
)
def test_code_that_is_not_trusted_never_runs_without_a_sandbox(mode: Mode, troubles: dict[Engine, str]) -> None:
    works = [engine for engine in STRONG if not troubles[engine] and mode in (Mode.AUTO, Mode(engine.value))]
    if works:
        assert choose(mode, troubles, repository=URL, trusted=False) is works[0]
    else:
        with pytest.raises(NoSandboxError, match=f"{URL}.* Next: "):
            choose(mode, troubles, repository=URL, trusted=False)


@pytest.mark.parametrize(("mode", "trusted"), list(itertools.product([Mode.CONTAINER, Mode.BUBBLEWRAP], [True, False])))
def test_what_was_asked_for_by_name_is_never_replaced_by_less(mode: Mode, trusted: bool) -> None:
    with pytest.raises(NoSandboxError, match=f"EDGELOOP_SANDBOX={mode} \\({mode}: not installed\\)"):
        choose(mode, NONE, repository=URL, trusted=trusted)


def test_the_error_says_why_each_engine_does_not_work_and_what_to_install() -> None:
    with pytest.raises(NoSandboxError) as caught:
        choose(Mode.AUTO, NONE, repository=URL, trusted=False)
    assert "container: not installed; bubblewrap: not installed" in str(caught.value)
    assert "apt-get install bubblewrap" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("https://forge.example/acme/fan.git", True),
        ("https://me:token@forge.example/acme/fan.git", True),
        ("https://forge.example/acme/group/fan.git", True),
        ("https://forge.example/evil/fan.git", False),
        ("https://forge.example/acme/../evil/fan.git", False),
        ("https://forge.example/acme/%2e%2e/evil/fan.git", False),
        ("https://forge.example@evil.example/acme/fan.git", False),
        ("https://forge.example.evil.example/acme/fan.git", False),
        ("http://forge.example/acme/fan.git", False),
    ],
)
def test_a_pattern_trusts_what_it_names_and_nothing_that_only_looks_like_it(url: str, trusted: bool) -> None:
    assert is_trusted(url, ["https://forge.example/acme/*"], owner=None, user=1000) is trusted


@pytest.mark.parametrize(("owner", "trusted"), [(1000, True), (1001, False), (0, False), (None, False)])
def test_a_folder_of_this_machine_has_to_belong_to_the_builders_user(owner: int | None, trusted: bool) -> None:
    assert is_trusted("file:///srv/fan.git", ["file://*"], owner=owner, user=1000) is trusted


def test_without_patterns_nobody_is_trusted() -> None:
    assert not is_trusted("file:///srv/fan.git", [], owner=1000, user=1000)
