"""No sandbox: a process of the builder's user with limits. For code that its user trusts, and for git."""

from dataclasses import dataclass

from services.artifact_builder.sandbox.engines import Engine, Program
from services.artifact_builder.sandbox.processes import Ended, Order, run_limited


@dataclass(frozen=True, slots=True)
class PlainProcess:
    """Runs programs with limits only."""

    @property
    def engine(self) -> Engine:
        return Engine.PROCESS

    async def run(self, program: Program) -> Ended:
        """As `Sandbox.run`."""
        return await run_limited(
            program.command,
            cwd=program.cwd,
            environment=program.environment,
            limits=program.limits,
            order=Order(watched=tuple(map(str, program.writable))),
        )
