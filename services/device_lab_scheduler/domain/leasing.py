"""The life of a lease: granted, renewed by heartbeat up to its cap, given back or run out. Pure; times in seconds.

A board is given to nobody else before `is_over`: a grace after the deadline, because the holder's clock and the
gateway's may differ. The fence at the board stops at the deadline itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from services.device_lab_scheduler.domain.scheduling import Policy, Start
from shared.lab import Lease, LeaseLostError


def grant(start: Start, holder: str, tokens: Mapping[str, int], now_s: float, policy: Policy) -> list[Lease]:
    """Return a lease for each board of `start`. `tokens` are the highest ever given, by board."""
    job = start.job
    cap_s = now_s + policy.limit_s(job)
    return [
        Lease(
            board=board,
            job=job.id,
            project=job.project,
            kind=job.kind,
            holder=holder,
            token=tokens.get(board, 0) + 1,
            granted_s=now_s,
            deadline_s=min(now_s + policy.ttl_s, cap_s),
            cap_s=cap_s,
            preemptible=job.preempted < policy.max_preemptions,
        )
        for board in start.boards
    ]


def renew(lease: Lease | None, board: str, token: int, now_s: float, policy: Policy) -> Lease:
    """Return the lease with a later deadline, never beyond its cap.

    Raises:
        LeaseLostError: it is not the board's lease, or its deadline has passed: renewing late asks for two holders.
    """
    held = owned(lease, board, token)
    if now_s >= held.deadline_s:
        capped = (
            "its cap: ask for a longer limit" if held.deadline_s >= held.cap_s else "its deadline: renew more often"
        )
        raise LeaseLostError(f"{board}: the lease with token {token} reached {capped}. Next: submit the job again")
    return replace(held, deadline_s=max(held.deadline_s, min(now_s + policy.ttl_s, held.cap_s)))


def owned(lease: Lease | None, board: str, token: int) -> Lease:
    """Return `lease` if `token` is its token.

    Raises:
        LeaseLostError: nobody holds the board, or somebody else.
    """
    if lease is None or lease.token != token:
        found = "nobody holds it" if lease is None else f"token {lease.token} holds it, for job {lease.job}"
        raise LeaseLostError(f"{board}: token {token} holds no lease; {found}. Next: submit the job again")
    return lease


def stop(lease: Lease) -> Lease:
    """Return the lease of a job that is through with the board while its fence was not told: it cannot be renewed.

    The fence admits its token until its deadline, so that the board stays held until the fence was told or `is_over`.
    Nobody is there any more who could be made to leave.
    """
    return replace(lease, cap_s=lease.deadline_s, preemptible=False)


def is_over(lease: Lease, now_s: float, policy: Policy) -> bool:
    """Tell whether the board may be given to somebody else."""
    return now_s >= lease.deadline_s + policy.grace_s


def run_out(leases: Iterable[Lease], now_s: float, policy: Policy) -> list[Lease]:
    """Return the leases that end now because nobody renewed them."""
    return [lease for lease in leases if is_over(lease, now_s, policy)]
