"""What turns settings, dependencies and a routing table into a running service."""

from shared.runtime.emitter import Emitter
from shared.runtime.handlers import (
    Emission,
    Emissions,
    Handler,
    InRun,
    Route,
    Timer,
    Transaction,
    Worker,
    every,
    handles,
    handles_telemetry,
    works_on,
)
from shared.runtime.service import Resources, Service, run
from shared.runtime.settings import BaseServiceSettings, wrong_variables

__all__ = [
    "BaseServiceSettings",
    "Emission",
    "Emissions",
    "Emitter",
    "Handler",
    "InRun",
    "Resources",
    "Route",
    "Service",
    "Timer",
    "Transaction",
    "Worker",
    "every",
    "handles",
    "handles_telemetry",
    "run",
    "works_on",
    "wrong_variables",
]
