"""The same commit gives the same digest, whatever the machine around the build looks like."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.artifact_builder.test_stage_cache import FILES
from tests.support import ROOT, git

pytestmark = pytest.mark.slow

BUILD = """
import asyncio, os, sys
from pathlib import Path
from services.artifact_builder.pipeline import BuildRequest, Site, build_checkout
from services.artifact_builder.sandbox.plain import PlainProcess
from services.artifact_builder.tools import Tools
checkout, work, key, umask, compiler_cache = sys.argv[1:]
os.umask(int(umask, 8))
tools = Tools(signing_key=Path(key), compiler_cache=Path(compiler_cache))
site = Site(Path(checkout), Path(work), PlainProcess())
request = BuildRequest("gestures", "https://forge.example/gestures.git", "0" * 40)
result = asyncio.run(build_checkout(request, site, tools))
for artifact in result.artifacts:
    print(artifact.blob.digest, artifact.name)
"""


def built(checkout: Path, work: Path, key: Path, compiler_cache: Path, *, umask: str, **environment: str) -> list[str]:
    for name in ("TMPDIR", "HOME"):
        Path(environment[name]).mkdir(parents=True)
    command = [sys.executable, "-c", BUILD, str(checkout), str(work), str(key), umask, str(compiler_cache)]
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=kept | environment, cwd=work.parent, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_two_builds_of_two_clones_in_two_environments_give_the_same_bytes(
    tmp_path: Path, signing_key: Path, zig_cache: Path
) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()
    for name, text in FILES.items():
        (origin / name).write_text(text)
    git(origin, "init", "--quiet")
    git(origin, "add", ".")
    git(origin, "commit", "--quiet", "--message=Add")
    here, there = tmp_path / "here", tmp_path / "a much longer place, with spaces" / "and depth"
    results = []
    compiler_caches = {here: zig_cache, there: there / "compiler-cache"}  # its library is built twice, too
    for place, environment in (
        (here, {"umask": "022", "TZ": "UTC", "LANG": "C.UTF-8", "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}),
        (there, {"umask": "077", "TZ": "Asia/Kolkata", "LC_ALL": "C", "PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "2"}),
    ):
        place.mkdir(parents=True)
        git(tmp_path, "clone", "--quiet", str(origin), str(place / "checkout"))
        folders = {"TMPDIR": str(place / "temporary"), "HOME": str(place / "home")}
        cache = compiler_caches[place]
        results.append(built(place / "checkout", place / "work", signing_key, cache, **environment, **folders))
    assert results[0] == results[1]
    assert len(results[0]) > 8
