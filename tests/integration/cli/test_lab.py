"""The operators' commands of the lab over a real server."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from edgeloop.layout import Layout
from shared.interop.signed_results import signed_result, unsigned_result
from shared.lab import Health, VerdictKind
from shared.lab.messages import JobState
from tests.integration.cli.lab_cli import LabCli
from tests.integration.cli.small_desk import SmallLab, board_view
from tests.support import eventually
from tests.support_interop import job_result


async def only_job(lab: SmallLab) -> str:
    await eventually(lambda: list(lab.orders) or None)
    (job,) = lab.orders
    return job


@pytest.mark.usefixtures("lab")
async def test_boards_are_listed_with_health_and_reason_and_chosen_by_a_need(lab_cli: LabCli) -> None:
    code, boards = await lab_cli("boards")
    assert (code, [board["name"] for board in boards]) == (0, ["m4-1", "m4-2", "m7-1"])
    assert boards[2]["reason"] == "its canary failed"
    code, boards = await lab_cli("boards", "--need", "core in cortex-m7")
    assert [board["name"] for board in boards] == ["m7-1"]
    code, out, _ = await lab_cli.text("boards", "--need", "sensor has gyroscope")
    assert (code, out) == (0, "no board of the lab meets it: `edgeloop lab boards` shows all\n")


@pytest.mark.usefixtures("lab")
async def test_a_need_that_nobody_can_read_is_bad_input(lab_cli: LabCli) -> None:
    code, answer = await lab_cli("boards", "--need", "ram>64k")
    assert code == 2
    assert "--need 'ram>64k': requirement, condition 1" in answer["error"]
    assert "write it like" in answer["next_step"]


@pytest.mark.usefixtures("nc")
async def test_a_lab_without_a_desk_says_what_to_start(lab_cli: LabCli) -> None:
    code, answer = await lab_cli("boards")
    assert code == 3
    assert "edgeloop.lab.desk.boards: nobody answered" in answer["error"]
    assert "edgeloop doctor" in answer["next_step"]


async def test_watching_into_a_pipe_prints_a_line_a_change(lab_cli: LabCli, lab: SmallLab) -> None:
    watching = lab_cli.process("boards", "--watch", "--json")
    assert watching.stdout is not None
    try:
        first = json.loads(await asyncio.to_thread(watching.stdout.readline))
        lab.views["m4-1"] = board_view("m4-1", health=Health.SUSPECT, reason="it hung")
        second = json.loads(await asyncio.to_thread(watching.stdout.readline))
    finally:
        watching.kill()
        watching.communicate()
    assert [board["health"] for board in first] == ["good", "good", "quarantined"]
    assert second[0]["reason"] == "it hung"


async def test_a_reservation_is_granted_kept_and_given_back_without_typing_a_token(
    lab_cli: LabCli, lab: SmallLab
) -> None:
    code, job = await lab_cli("reserve", "--need", "core in cortex-m4", "--count", "2", "--for", "1h", "--wait")
    assert (code, [lease["board"] for lease in job["held"]]) == (0, ["m4-1", "m4-2"])
    code, listed = await lab_cli("lease", "list")
    assert [each["id"] for each in listed] == [job["id"]]
    code, renewed = await lab_cli("lease", "renew")
    assert (code, len(renewed["renewed"]), lab.renewals) == (0, 2, 2)
    assert await lab_cli("release", "m4-1") == (0, {"released": ["m4-1"]})
    code, answer = await lab_cli("release", "m4-1")
    assert code == 2
    assert "m4-1: you do not hold it; you hold: m4-2" in answer["error"]
    assert await lab_cli("release", job["id"]) == (0, {"released": ["m4-2"]})
    assert lab.orders[job["id"]].verdict is VerdictKind.PASSED
    assert await lab_cli("lease", "list") == (0, [])


@pytest.mark.usefixtures("lab")
async def test_tokens_are_kept_for_the_user_alone(lab_cli: LabCli) -> None:
    await lab_cli("reserve", "--board", "cortex-m4", "--wait")
    file = Layout(lab_cli.data).lab_tickets
    assert file.stat().st_mode & 0o777 == 0o600
    assert '"token": 1' in file.read_text()


async def test_a_reservation_that_must_wait_says_what_for_and_can_be_withdrawn(lab_cli: LabCli, lab: SmallLab) -> None:
    await lab_cli("reserve", "--count", "3", "--wait")
    code, out, _ = await lab_cli.text("reserve", "--need", "core in cortex-m4")
    assert code == 0
    assert "waits: a free board" in out
    assert "starts within 30 min 00 s" in out
    waiting = next(job.id for job in lab.orders.values() if job.state is JobState.WAITING)
    code, answer = await lab_cli("release", waiting)
    assert (code, answer) == (0, {"released": []})
    assert lab.orders[waiting].state is JobState.ENDED


async def test_whoever_stops_waiting_withdraws(lab_cli: LabCli, lab: SmallLab) -> None:
    waiting = lab_cli.process("reserve", "--count", "9", "--wait")
    job = await only_job(lab)
    waiting.send_signal(signal.SIGINT)
    await asyncio.to_thread(waiting.communicate)
    assert waiting.returncode == 130
    assert lab.orders[job].reason == "its holder stopped waiting"


async def test_holding_renews_until_ctrl_c_gives_the_boards_back(lab_cli: LabCli, lab: SmallLab) -> None:
    lab.ttl_s, lab.refused_renewals = 1.0, 1
    holding = lab_cli.process("reserve", "--need", "core in cortex-m4", "--hold", "--json")
    job = await only_job(lab)
    await eventually(lambda: lab.renewals > 2 or None)
    holding.send_signal(signal.SIGINT)
    out, err = await asyncio.to_thread(holding.communicate)
    assert holding.returncode == 0, err.decode()
    assert json.loads(out)["id"] == job
    assert "gave m4-1 back" in err.decode()
    assert lab.orders[job].state is JobState.ENDED


async def test_holding_ends_when_the_boards_are_lost(lab_cli: LabCli, lab: SmallLab) -> None:
    lab.ttl_s = 0.6
    holding = lab_cli.process("reserve", "--need", "core in cortex-m4", "--hold")
    await only_job(lab)
    await eventually(lambda: lab.renewals > 0 or None)
    lab.take_away("m4-1")
    _, err = await asyncio.to_thread(holding.communicate)
    assert holding.returncode == 3
    assert "lost: m4-1: token 1 holds no lease; token 2 does" in err.decode()


async def test_a_lost_lease_is_told_by_renewing_it(lab_cli: LabCli, lab: SmallLab) -> None:
    await lab_cli("reserve", "--board", "cortex-m4", "--wait")
    lab.take_away("m4-1")
    code, answer = await lab_cli("lease", "renew", "m4-1")
    assert (code, answer["renewed"]) == (3, [])
    assert "token 2 does" in answer["lost"][0]


@pytest.mark.parametrize("command", [["console"], ["release"], ["lease", "renew"]], ids=" ".join)
async def test_whoever_comes_back_too_late_is_told_why_the_board_is_gone(
    lab_cli: LabCli, lab: SmallLab, command: list[str]
) -> None:
    await lab_cli("reserve", "--board", "cortex-m4", "--wait")
    (job,) = lab.orders
    lab.end(job, VerdictKind.INFRASTRUCTURE, "nobody renewed it in time")
    code, _, err = await lab_cli.text(*command, "m4-1")
    assert code == 3
    assert f"m4-1: it is yours no more; {job} ended: nobody renewed it in time" in err


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reserve", "--for", "soon"], "--for 'soon': allowed is a number above 0 with s, m or h"),
        (["reserve", "--count", "65"], "64 are allowed at once"),
        (["reserve", "--board", "cortex m4"], "--board"),
        (["reserve", "--project", "Me"], "--project 'Me'"),
        (["lease", "renew", "--token", "3"], "--token is that of one board"),
        (["lease", "renew", "m4-9"], "m4-9: you do not hold it; you hold: none"),
        (["release", "nothing-of-that-name"], "the lab knows no job nothing-of-that-name"),
        (["jobs", "nothing-of-that-name"], "the lab knows no job nothing-of-that-name"),
        (["health", "m4-1", "take-out"], "found no reason"),
        (["health", "m9-1", "bring-back"], "no board 'm9-1'"),
        (["console", "m4-1"], "m4-1: you do not hold it; you hold: none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_bad_input_is_named(lab_cli: LabCli, arguments: list[str], said: str) -> None:
    code, _, err = await lab_cli.text(*arguments)
    assert code == 2
    assert said in err
    assert "next:" in err


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (VerdictKind.PASSED, 0),
        (VerdictKind.FLAKY, 0),
        (VerdictKind.FAILED, 1),
        (VerdictKind.INFRASTRUCTURE, 3),
    ],
)
async def test_following_a_job_ends_with_it_and_exits_by_its_verdict(
    lab_cli: LabCli, lab: SmallLab, verdict: VerdictKind, code: int
) -> None:
    await lab_cli("reserve", "--board", "cortex-m4", "--wait")
    (job,) = lab.orders
    following = lab_cli.process("jobs", job, "--watch", "--json")
    assert following.stdout is not None
    first = json.loads(await asyncio.to_thread(following.stdout.readline))
    lab.end(job, verdict, "so it was")
    out, _ = await asyncio.to_thread(following.communicate)
    assert (first["state"], following.returncode) == ("running", code)
    assert [json.loads(line)["verdict"] for line in out.splitlines()] == [verdict]


async def test_jobs_that_have_ended_are_listed_when_asked_for(lab_cli: LabCli, lab: SmallLab) -> None:
    await lab_cli("reserve", "--board", "cortex-m4", "--project", "gestures", "--wait")
    (job,) = lab.orders
    lab.end(job, VerdictKind.FAILED, "accuracy 0.7")
    code, out, _ = await lab_cli.text("jobs")
    assert "no jobs wait or run" in out
    code, found = await lab_cli("jobs", "--all", "--project", "gestures")
    assert [each["reason"] for each in found["jobs"]] == ["accuracy 0.7"]
    code, found = await lab_cli("jobs", "--all", "--project", "other")
    assert (code, found["jobs"]) == (0, [])


@pytest.mark.usefixtures("lab")
async def test_boards_are_taken_out_and_brought_back(lab_cli: LabCli) -> None:
    code, board = await lab_cli("health", "m4-1", "take-out", "--reason", "new antenna")
    assert (code, board["health"], board["reason"]) == (0, "maintenance", "new antenna")
    code, board = await lab_cli("health", "m4-1", "bring-back")
    assert board["health"] == "probation"


async def test_history_says_how_far_each_result_is_trusted(lab_cli: LabCli, lab: SmallLab, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from shared.artifacts.keys import PublicKey

    private = Ed25519PrivateKey.from_private_bytes(b"7" * 32)
    stranger = Ed25519PrivateKey.from_private_bytes(b"8" * 32)
    key = PublicKey(private.public_key())
    more = job_result(2, instructions=1_002_000)
    lab.history = tuple(
        document.decode()
        for document in (
            signed_result(more, key_id=key.key_id, sign=private.sign),
            signed_result(job_result(1, instructions=5), key_id="stranger", sign=stranger.sign),
            unsigned_result(job_result(0)),
        )
    )
    pem, report = tmp_path / "key.pem", tmp_path / "report.xml"
    pem.write_bytes(key.pem)
    code, found = await lab_cli("history", "--trend", "--key", str(pem), "--junit", str(report))
    assert [each["signature"] for each in found["results"]] == ["verified", "untrusted", "unsigned"]
    # 5 instructions would have failed nothing and hidden everything: what a stranger signed counts for nothing.
    (trend,) = found["trends"]
    assert (trend["counts"], trend["gate"]["outcome"], code) == ([1_000_000, 1_002_000], "failed", 1)
    assert report.read_text().count("<testsuite ") == 2
    code, found = await lab_cli("history")
    assert (code, [each["signature"] for each in found["results"]]) == (0, ["unchecked", "unchecked", "unsigned"])


async def test_a_console_carries_bytes_of_a_pipe_and_shows_what_was_lost(lab_cli: LabCli, lab: SmallLab) -> None:
    await lab_cli("reserve", "--board", "cortex-m4", "--wait")
    talking = lab_cli.process("console", "m4-1", "--reset", "--follow")
    assert talking.stdin is not None
    assert talking.stdout is not None
    talking.stdin.write(b"name%")
    talking.stdin.flush()
    assert await asyncio.to_thread(talking.stdout.read, 5) == b"NAME%"
    await lab.say("m4-1", b"late", skip=3)
    assert await asyncio.to_thread(talking.stdout.read, 4) == b"late"
    lab.take_away("m4-1")
    await lab.say("m4-1", b"not for the old holder")
    out, err = await asyncio.to_thread(talking.communicate)
    assert (out, talking.returncode) == (b"", 3)
    assert "3 bytes were lost on the way" in err.decode()
    assert "the console is closed: m4-1: token 2 holds it now" in err.decode()
    assert [(touch.reset, touch.write) for touch in lab.touched] == [(True, b""), (False, b"name%")]


async def test_a_console_at_the_end_of_its_input_leaves_once_the_board_is_quiet(lab_cli: LabCli, lab: SmallLab) -> None:
    await lab_cli("reserve", "--board", "cortex-m4", "--wait")
    talking = lab_cli.process("console", "m4-1", "--linger", "0.3", "--echo")
    out, err = await asyncio.to_thread(talking.communicate, b"x" * 5000)
    assert (talking.returncode, err) == (0, b"")
    assert (out.count(b"x"), out.count(b"X")) == (5000, 5000)
    assert [len(touch.write) for touch in lab.touched] == [4096, 904]
    assert lab.orders


async def test_a_console_whose_lease_cannot_be_renewed_closes(lab_cli: LabCli, lab: SmallLab) -> None:
    lab.ttl_s = 0.6
    await lab_cli("reserve", "--board", "cortex-m4", "--wait")
    talking = lab_cli.process("console", "m4-1")
    await eventually(lambda: lab.renewals > 1 or None)
    lab.take_away("m4-1")
    code = await asyncio.to_thread(talking.wait)
    _, err = await asyncio.to_thread(talking.communicate)
    assert code == 3
    assert "token 1 holds no lease; token 2 does" in err.decode()


async def test_ctrl_bracket_leaves_a_console_and_ctrl_c_is_the_boards(lab_cli: LabCli, lab: SmallLab) -> None:
    await lab_cli("reserve", "--board", "cortex-m4", "--wait")
    ours, theirs = os.openpty()
    talking = lab_cli.process("console", "m4-1", stdin=theirs)
    os.close(theirs)
    assert talking.stdout is not None
    try:
        os.write(ours, b"ab")
        assert await asyncio.to_thread(talking.stdout.read, 2) == b"AB"
        os.write(ours, b"\x03\r\x1dnot this")
        _, err = await asyncio.to_thread(talking.communicate)
    finally:
        os.close(ours)
    assert (talking.returncode, err.decode()) == (0, "m4-1 at bench; Ctrl-] leaves\n")
    assert b"".join(touch.write for touch in lab.touched) == b"ab\x03\r"
    assert lab.tokens["m4-1"] == 1
