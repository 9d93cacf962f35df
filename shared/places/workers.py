"""Processes that do one thing at a time and can be ended for certain: what hangs in one hangs nobody else."""

import asyncio
import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, Final, TypeVar

_END_WITHIN_S: Final = 10.0
"""How long the kernel may take over a process that was killed."""

T = TypeVar("T")


class WorkerDiedError(RuntimeError):
    """The process was ended, by us or by the kernel."""


class Worker:
    """A process that calls functions, started with the first call. It dies with this process, even after SIGKILL."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, self._theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._theirs,), name="lab-worker", daemon=True)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lab-worker")
        self._starting = threading.Lock()
        self._killed = False
        self.busy = False

    @property
    def pid(self) -> int | None:
        """Of the process, once it runs."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.pid is not None and self._process.is_alive()

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Return what a function of a module, which is imported there, returns. One call at a time.

        Raises:
            WorkerDiedError: the process is gone.
            Exception: what the function raised, pickled.
        """
        self.busy = True
        answer: tuple[Exception, None] | tuple[None, T] = await asyncio.get_running_loop().run_in_executor(
            self._thread, self._converse, (function, arguments)
        )
        self.busy = False
        if answer[0] is not None:
            raise answer[0]
        return answer[1]

    def kill(self) -> None:
        """End the process, whatever it does. It is gone when this returns.

        Raises:
            WorkerDiedError: it could not be ended.
        """
        with self._starting:
            self._killed = True
            if self._process.pid is None:
                self._theirs.close()
            else:
                self._process.kill()
                self._process.join(_END_WITHIN_S)
                if self._process.exitcode is None:
                    raise WorkerDiedError(f"process {self.pid} outlives SIGKILL: the kernel holds it; look at its disk")
        self._thread.shutdown(wait=True)
        self._ours.close()

    def _converse(self, request: object) -> Any:  # noqa: ANN401 - what came through the pipe
        with self._starting:
            if self._killed:
                raise WorkerDiedError("the worker process was ended before it was started")
            if self._process.pid is None:
                self._process.start()
                self._theirs.close()
        try:
            self._ours.send(request)
            return self._ours.recv()
        except (EOFError, OSError) as error:
            raise WorkerDiedError(f"the worker process ended ({type(error).__name__})") from error


class Workers:
    """Spare processes for whoever needs one next: a new one takes a second of processor time to start."""

    def __init__(self, spares: int) -> None:
        """Args: spares: how many idle processes are kept at most."""
        self._most = spares
        self._spares: list[Worker] = []

    def take(self) -> Worker:
        """Return an idle one, or a new one."""
        while self._spares:
            if (worker := self._spares.pop()).alive:
                return worker
            worker.kill()
        return Worker()

    def give_back(self, worker: Worker) -> None:
        """Keep an idle one, or end it."""
        if len(self._spares) < self._most:
            self._spares.append(worker)
        else:
            worker.kill()

    def close(self) -> None:
        """End the spare ones."""
        while self._spares:
            self._spares.pop().kill()


def _serve(pipe: "Connection[Any, Any]") -> None:
    _die_with_parent()
    with contextlib.suppress(EOFError):
        while True:
            function, arguments = pipe.recv()
            try:
                value = function(*arguments)
            except Exception as error:  # noqa: BLE001 - it is raised where the call came from
                pipe.send((error, None))
            else:
                pipe.send((None, value))


def _die_with_parent() -> None:
    """Leave when the service is gone, even by SIGKILL: an orphan would wait for calls for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
