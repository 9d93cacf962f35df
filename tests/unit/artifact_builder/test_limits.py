"""What a container's control group says of memory, in both versions of the kernel's files."""

from pathlib import Path

import pytest

from services.artifact_builder.sandbox.limits import memory_that_killed

VERSION_1 = {
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n",
    "memory/memory.max_usage_in_bytes": "250003456\n",
}
VERSION_2 = {
    "memory.events": "low 0\nhigh 0\nmax 41\noom 1\noom_kill {}\noom_group_kill 0\n",
    "memory.peak": "250003456\n",
}


@pytest.mark.parametrize("files", [VERSION_1, VERSION_2], ids=["version 1", "version 2"])
@pytest.mark.parametrize(("kills", "used"), [(0, 0), (1, 250_003_456), (3, 250_003_456)])
def test_memory_is_told_where_the_kernel_killed_for_it(
    files: dict[str, str], kills: int, used: int, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.format(kills))
    assert memory_that_killed(tmp_path) == used


def test_a_kernel_that_keeps_no_peak_or_no_control_group_is_no_trouble(tmp_path: Path) -> None:
    assert memory_that_killed(tmp_path) == 0
    (tmp_path / "memory.events").write_text(VERSION_2["memory.events"].format(2))
    assert memory_that_killed(tmp_path) == 1
