"""Runs a piece of a test as a user whom the modes of files stop: root reads everything."""

import concurrent.futures.thread  # noqa: F401 - asyncio imports it when it first needs it, which may be too late
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

_NOBODY = 65534


def as_nobody(work: Callable[[Path], object]) -> None:
    """Call `work` with an empty folder of its own; when this process is root, in a child that is not.

    What it imports has to be imported already: root's interpreter may lie where nobody else can go.
    """
    python = shutil.which("python3", path="/usr/bin")
    if os.geteuid() == 0 and python is None:
        pytest.skip("needs /usr/bin/python3 beside root: apt-get install python3, or run the tests as another user")
    with _public_folder() as folder:
        if os.geteuid() != 0 or python is None:
            work(folder)
            return
        with warnings.catch_warnings():  # of newer Pythons, about threads: the child uses none that were there before
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            os._exit(_as_child(work, folder, python))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "see its traceback in the captured output"


def _as_child(work: Callable[[Path], object], folder: Path, python: str) -> int:
    try:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        sys.executable = python
        work(folder)
    except BaseException:  # noqa: BLE001 - a child of a test runner must end here, whatever it is
        traceback.print_exc()
        sys.stderr.flush()
        return 1
    return 0


@contextmanager
def _public_folder() -> Iterator[Path]:
    """Make a folder that every user of the machine may enter and write to; removed by whoever made it."""
    with TemporaryDirectory(prefix="edgeloop-test-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)
