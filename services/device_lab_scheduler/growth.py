"""How an inference's instructions grew since the last accepted release of the project on the same board."""

from collections.abc import Iterable

from shared.events import Check, CheckOutcome
from shared.interop.history import TOLERANCE, judge_instructions
from shared.interop.results import JobResult
from shared.interop.signed_results import read_result


def judge_growth(documents: Iterable[bytes], candidate: JobResult, allowed: float | None) -> Check | None:
    """Return the check; None where nothing was counted.

    Args:
        documents: of the project's results on that board; the lab's own, so that no key is needed to read them.
        candidate: the result that is judged.
        allowed: the manifest's gate; None: more than usual is said, and stops nothing.
    """
    if candidate.instructions is None:
        return None
    history = [read_result(document, ()).result for document in documents]
    check = judge_instructions(history, candidate, TOLERANCE if allowed is None else allowed)
    changes: dict[str, object] = {"name": f"{check.name}-{candidate.board}"}
    if allowed is None and check.outcome is CheckOutcome.FAILED:
        grown = "it grew, and gates.instructions_growth of edgeloop.yaml, which would stop it, is not set"
        changes |= {"outcome": CheckOutcome.PASSED, "detail": grown}
    return check.model_copy(update=changes)
