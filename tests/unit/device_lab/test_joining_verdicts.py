"""Two verdicts in any order, again and again, in several runs: one decision each."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.device_lab_scheduler.domain.candidates import (
    NEW,
    Candidate,
    Decision,
    Refuse,
    Stage,
    Validator,
    Verdict,
    join,
)
from shared.events import Check, CheckOutcome


def failing(name: str) -> Check:
    return Check(name=name, outcome=CheckOutcome.FAILED, observed="3", allowed="0", detail="mend it")


LEAK = Verdict(Validator.DATA, passed=False, failed=(failing("group-leakage"),))
WEAK = Verdict(Validator.MODEL, passed=False, failed=(failing("int8-accuracy"),))
GOOD_DATA = Verdict(Validator.DATA, passed=True)
GOOD_MODEL = Verdict(Validator.MODEL, passed=True)


def decisions(*verdicts: Verdict) -> list[Decision]:
    candidate, made = NEW, []
    for verdict in verdicts:
        candidate, decision = join(candidate, verdict)
        made += [decision] if decision else []
    return made


def test_one_verdict_decides_nothing() -> None:
    assert decisions(GOOD_DATA) == []
    assert decisions(WEAK, WEAK, GOOD_MODEL) == []


def test_two_passing_verdicts_stage_in_either_order() -> None:
    assert decisions(GOOD_DATA, GOOD_MODEL) == decisions(GOOD_MODEL, GOOD_DATA) == [Stage()]


def test_a_refusal_waits_for_the_other_verdict_and_names_both() -> None:
    (refusal,) = decisions(WEAK, LEAK)
    assert isinstance(refusal, Refuse)
    assert refusal.reason == (
        "Data rejected: group-leakage: 3, allowed 0: mend it. Model rejected: int8-accuracy: 3, allowed 0: mend it"
    )
    assert [check.name for check in refusal.checks] == ["group-leakage", "int8-accuracy"]


def test_a_refusal_names_only_the_validator_that_rejected() -> None:
    (refusal,) = decisions(GOOD_MODEL, LEAK)
    assert isinstance(refusal, Refuse)
    assert "Model" not in refusal.reason


class AnyOrder(RuleBasedStateMachine):
    """Delivers verdicts to several (run, release) pairs, with repeats, and compares with what was said first."""

    def __init__(self) -> None:
        super().__init__()
        self.candidates: dict[tuple[int, int], Candidate] = {}
        self.said: dict[tuple[int, int], dict[Validator, Verdict]] = {}
        self.decided: dict[tuple[int, int], list[Decision]] = {}

    @rule(
        run=st.integers(0, 2),
        release=st.integers(0, 1),
        verdict=st.sampled_from([LEAK, WEAK, GOOD_DATA, GOOD_MODEL]),
        times=st.integers(1, 3),
    )
    def deliver(self, run: int, release: int, verdict: Verdict, times: int) -> None:
        key = (run, release)
        self.said.setdefault(key, {}).setdefault(verdict.validator, verdict)
        for _ in range(times):
            self.candidates[key], decision = join(self.candidates.get(key, NEW), verdict)
            if decision:
                self.decided.setdefault(key, []).append(decision)

    @invariant()
    def a_pair_is_decided_exactly_when_it_is_complete_and_once(self) -> None:
        for key, said in self.said.items():
            made = self.decided.get(key, [])
            assert len(made) == (1 if len(said) == 2 else 0)

    @invariant()
    def only_pairs_that_passed_first_are_staged(self) -> None:
        for key, made in self.decided.items():
            passed = all(verdict.passed for verdict in self.said[key].values())
            assert isinstance(made[0], Stage if passed else Refuse)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
