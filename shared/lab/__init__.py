"""The vocabulary of the device lab: place, board, requirement, job, lease, fence, verdict.

A *place* is where boards hang: a rack with its gateway, or the emulators of this machine. A *job* asks for one board
or several at once. It gets them by *leases*, which end unless renewed, and whose *token* whoever touches the board
checks at a *fence*. A *reservation* is a job in which a person works instead of a program.
"""

from shared.events.lab import Health, JobKind, VerdictKind
from shared.lab.board import LabBoard, Place
from shared.lab.job import Job
from shared.lab.lease import Fence, Lease, LeaseLostError, StaleTokenError
from shared.lab.requirement import Requirement, RequirementError, parse_requirement
from shared.lab.verdict import Attempt, AttemptOutcome, Verdict, judge

__all__ = [
    "Attempt",
    "AttemptOutcome",
    "Fence",
    "Health",
    "Job",
    "JobKind",
    "LabBoard",
    "Lease",
    "LeaseLostError",
    "Place",
    "Requirement",
    "RequirementError",
    "StaleTokenError",
    "Verdict",
    "VerdictKind",
    "judge",
    "parse_requirement",
]
