from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.bus._lanes import Lanes

KEYS = ("a", "b", "c")


class LanesAgainstAModel(RuleBasedStateMachine):
    """The model: per key the items in order, whether the first of them runs, and until when it is held."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes: Lanes[int] = Lanes()
        self.model: dict[str, list[int]] = {key: [] for key in KEYS}
        self.running: set[str] = set()
        self.held: dict[str, float] = {}
        self.now = 0.0
        self.count = 0

    @rule(key=st.sampled_from(KEYS))
    def admit(self, key: str) -> None:
        self.count += 1
        self.lanes.admit(key, self.count)
        self.model[key].append(self.count)

    @rule()
    def start(self) -> None:
        allowed = {
            key
            for key in KEYS
            if self.model[key] and key not in self.running and self.held.get(key, self.now) <= self.now
        }
        ready = self.lanes.next_ready(self.now)
        if ready is None:
            assert not allowed, "something could run and was not offered"
            return
        key, item = ready
        assert key in allowed, "a key ran twice at once, or before its time"
        assert item == self.model[key][0], "a key's items ran out of order"
        self.running.add(key)
        self.held.pop(key, None)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.lanes.finish(key)
        self.running.discard(key)
        self.model[key].pop(0)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), delay_s=st.floats(min_value=0, max_value=10))
    def hold(self, data: st.DataObject, delay_s: float) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.lanes.hold(key, self.now + delay_s, self.model[key][0])
        self.running.discard(key)
        self.held[key] = self.now + delay_s

    @rule(step_s=st.floats(min_value=0, max_value=10))
    def time_passes(self, step_s: float) -> None:
        self.now += step_s

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.lanes) == sum(map(len, self.model.values()))

    @invariant()
    def the_next_due_time_is_known(self) -> None:
        due = self.lanes.next_due()
        assert due is None or due in self.held.values()


TestLanes = LanesAgainstAModel.TestCase
TestLanes.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
