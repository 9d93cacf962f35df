"""From a graph to steps and places: what an inference calls, and which bytes every tensor has."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from services.artifact_builder.codegen.errors import UnsupportedModelError
from services.artifact_builder.codegen.graph import ElementType, Graph, Operator, Tensor
from services.artifact_builder.codegen.layers import Join, Layer, Lowered, View
from services.artifact_builder.codegen.lowering import ALIASES, lower
from services.artifact_builder.codegen.movement import copy
from services.artifact_builder.codegen.planner import Lifetime, Plan, aligned, plan_arena
from services.artifact_builder.codegen.state import STATE_OPERATORS, Variable, Variables, must_copy
from shared.events.lab import Numerics

_MAXIMUM_CONSTANT_BYTES: Final = 1 << 26
"""What all operators read of constants together; the largest flash of the catalogue is a quarter of it."""
_MAXIMUM_ARENA_BYTES: Final = 1 << 28
_INPUTS_INDEX: Final = -1
_OUTPUTS_INDEX: Final = -2
_FIRST_STATE_INDEX: Final = -3
_FIRST_COPY_INDEX: Final = -1_000_000
_INTERFACE_TYPES: Final = (
    ElementType.INT8,
    ElementType.UINT8,
    ElementType.INT16,
    ElementType.INT32,
    ElementType.FLOAT32,
)


@dataclass(frozen=True, slots=True)
class Step:
    """One operator, and the calls that it becomes."""

    operator: Operator
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor's bytes are: `offset_bytes` into a variable, or into the arena where `variable` is None."""

    variable: Variable | None
    offset_bytes: int


@dataclass(frozen=True, slots=True)
class Program:
    """All that is written as C."""

    steps: tuple[Step, ...]
    places: Mapping[int, Place]
    """By the tensor's index, for all but constants."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    input_place: Place
    """Of the first input; the others follow at `interface_offsets`."""
    output_place: Place
    variables: tuple[Variable, ...]
    arena_bytes: int

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All calls, in order."""
        return tuple(layer for step in self.steps for layer in step.layers)

    def with_layers(self, change: Callable[[Layer], Layer]) -> "Program":
        """Return the same program, with every layer changed."""
        steps = tuple(replace(step, layers=tuple(map(change, step.layers))) for step in self.steps)
        return replace(self, steps=steps)


def compose(graph: Graph, numerics: Numerics) -> Program:
    """Lower a graph and plan its memory.

    Concatenations are tried both ways, made in place and copied together, because a place that is taken early can make
    the arena larger.

    Raises:
        MalformedModelError: operators do not fit together.
        UnsupportedModelError: the kernels lack something.
    """
    composer = _Composer(graph, numerics, joins=True)
    best = composer.program()
    if composer.has_joined:
        best = min(best, _Composer(graph, numerics, joins=False).program(), key=lambda program: program.arena_bytes)
    return best


def interface_offsets(tensors: Sequence[Tensor]) -> list[int]:
    """Return where several inputs or outputs lie: one after the other, each aligned."""
    offsets = [0]
    for tensor in tensors[:-1]:
        offsets.append(offsets[-1] + aligned(tensor.size_bytes))
    return offsets


@dataclass(frozen=True, slots=True)
class _Root:
    tensor: Tensor
    offset_bytes: int


@dataclass(slots=True)
class _Composer:
    graph: Graph
    numerics: Numerics
    joins: bool
    has_joined: bool = False
    _steps: list[Step] = field(default_factory=list)
    _views: dict[int, _Root] = field(default_factory=dict)
    _fixed: set[int] = field(default_factory=set)
    """Tensors whose bytes are not free to be chosen: inputs, variables, and those that others were put into."""
    _states: set[int] = field(default_factory=set)

    def program(self) -> Program:
        main = self.graph.main
        _check_interface("input", main.inputs)
        _check_interface("output", main.outputs)
        variables = Variables(self.graph, _FIRST_STATE_INDEX)
        operators = _needed(main.operators, main.outputs)
        _require_bounded(operators)
        states = [*variables.all(), *_variable_tensors(operators)]
        source = self._input_block(main.inputs)
        self._states.update(variable.tensor.index for variable in states)
        self._fixed.update(self._states)
        self._lower_all(operators, variables, must_copy(operators, main.outputs))
        result = self._output_block(main.outputs)
        if not self._steps:
            raise UnsupportedModelError("the model computes nothing: its output is its input. Check what was exported")
        plan, planned = self._plan(source, result)
        places = self._places(plan, planned, states)
        return Program(
            steps=tuple(self._steps),
            places=places,
            inputs=main.inputs,
            outputs=main.outputs,
            input_place=places[source.index],
            output_place=places[result.index],
            variables=tuple(states),
            arena_bytes=plan.arena_bytes,
        )

    def _input_block(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the only input, or a tensor that holds all of them."""
        self._fixed.update(tensor.index for tensor in tensors)
        if len(tensors) == 1:
            return tensors[0]
        block = _block("inputs", _INPUTS_INDEX, tensors)
        self._fixed.add(block.index)
        for tensor, offset in zip(tensors, interface_offsets(tensors), strict=True):
            self._views[tensor.index] = _Root(block, offset)
        return block

    def _output_block(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the only output, or a tensor that holds all: made in place where that is free, else copied."""
        if len(tensors) == 1 and tensors[0].data is None and not self._is_state(tensors[0]):
            return tensors[0]
        block = _block("outputs", _OUTPUTS_INDEX, tensors)
        self._fixed.add(block.index)
        for number, (tensor, offset) in enumerate(zip(tensors, interface_offsets(tensors), strict=True)):
            if not self._put(View(tensor, block, offset)):
                target = replace(tensor, index=_FIRST_COPY_INDEX - number, data=None)
                self._views[target.index] = _Root(block, offset)
                operator = Operator(len(self.graph.operators) + number, "COPY", 1, (tensor,), (target,), {})
                self._steps.append(Step(operator, (copy(operator, tensor, target),)))
        return block

    def _lower_all(self, operators: Sequence[Operator], variables: Variables, copied: frozenset[int]) -> None:
        known = {*self._fixed, *(tensor.index for tensor in self.graph.main.inputs)}
        for place, operator in enumerate(operators):
            _require_inputs_known(operator, known)
            layers: list[Layer] = []
            for item in self._lower_one(operator, variables, copy_read=place in copied):
                match item:
                    case Layer():
                        layers.append(item)
                    case View(tensor, of, offset_bytes):
                        self._views[tensor.index] = self._root(of, offset_bytes)
                    case Join(view, otherwise):
                        if not (self.joins and self._put(view)):
                            layers.append(otherwise)
                        else:
                            self.has_joined = True
            self._require_made_once(operator, known)
            known.update(tensor.index for tensor in operator.outputs)
            layers = [layer for layer in layers if not self._changes_nothing(layer)]
            if layers:
                self._steps.append(Step(operator, tuple(layers)))

    def _require_made_once(self, operator: Operator, known: set[int]) -> None:
        for tensor in operator.outputs:
            if tensor.index in self._states:
                _require_constant(operator, tensor)
            elif tensor.index in known or tensor.data is not None:
                raise operator.malformed(f"{tensor.label} is made twice")

    def _lower_one(self, operator: Operator, variables: Variables, *, copy_read: bool) -> Lowered:
        if operator.name not in STATE_OPERATORS:
            return lower(operator, self.numerics)
        if operator.name == "READ_VARIABLE":
            state = variables.of(operator)
            return [copy(operator, state, operator.output)] if copy_read else [View(operator.output, state)]
        if operator.name == "ASSIGN_VARIABLE":
            return [copy(operator, operator.input(1), variables.of(operator))]
        return []

    def _root(self, tensor: Tensor, offset_bytes: int = 0) -> _Root:
        """Return the tensor that owns the bytes, and where in it they begin."""
        while tensor.index in self._views:
            root = self._views[tensor.index]
            tensor, offset_bytes = root.tensor, offset_bytes + root.offset_bytes
        return _Root(tensor, offset_bytes)

    def _is_state(self, tensor: Tensor) -> bool:
        return self._root(tensor).tensor.index in self._states

    def _put(self, view: View) -> bool:
        """Let a tensor be made inside another one, if nothing else decides where its bytes are."""
        root = self._root(view.tensor)
        target = self._root(view.of, view.offset_bytes)
        free = root.tensor.data is None and root.tensor.index not in self._fixed and root.offset_bytes == 0
        if not free or root.tensor.size_bytes != view.tensor.size_bytes or root.tensor.index == target.tensor.index:
            return False
        self._views[root.tensor.index] = target
        return True

    def _changes_nothing(self, layer: Layer) -> bool:
        """Whether a call would copy a variable onto itself."""
        return (
            layer.kernel == "el_rearrange"
            and self._root(layer.inputs[0]) == self._root(layer.output)
            and layer.fields["read_stride"] == layer.fields["write_stride"]
            and layer.fields["read_first"] == layer.fields["write_first"]
        )

    def _plan(self, source: Tensor, result: Tensor) -> tuple[Plan, list[int]]:
        """Plan the arena. The second result names the tensors in the plan's order."""
        lives = {source.index: Lifetime(source.size_bytes, 0, 0)}

        def use(tensor: Tensor, step: int) -> None:
            root = self._root(tensor).tensor
            if root.data is None and root.index not in self._states:
                life = lives.setdefault(root.index, Lifetime(root.size_bytes, step, step))
                lives[root.index] = replace(life, last=max(life.last, step))

        for number, step in enumerate(self._steps):
            for layer in step.layers:
                for tensor in (*layer.inputs, layer.output):
                    use(tensor, number)
        use(result, len(self._steps))
        order = sorted(lives)  # as in the model: what TFLM's plan depends on where tensors are of one size
        plan = plan_arena([lives[index] for index in order])
        if plan.arena_bytes > _MAXIMUM_ARENA_BYTES:
            raise UnsupportedModelError(
                f"the model needs {plan.arena_bytes} bytes for its activations; no board has more than "
                f"{_MAXIMUM_ARENA_BYTES}. Make its inputs or layers smaller"
            )
        return plan, order

    def _places(self, plan: Plan, planned: Sequence[int], states: Iterable[Variable]) -> dict[int, Place]:
        owners = {variable.tensor.index: Place(variable, 0) for variable in states}
        owners.update({index: Place(None, offset) for index, offset in zip(planned, plan.offsets, strict=True)})
        places = dict(owners)
        tensors = [tensor for step in self._steps for layer in step.layers for tensor in (*layer.inputs, layer.output)]
        for tensor in (*tensors, *self.graph.main.outputs):
            root = self._root(tensor)
            if root.tensor.index in owners:
                owner = owners[root.tensor.index]
                places[tensor.index] = replace(owner, offset_bytes=owner.offset_bytes + root.offset_bytes)
        return places


def _block(name: str, index: int, tensors: Sequence[Tensor]) -> Tensor:
    size_bytes = interface_offsets(tensors)[-1] + tensors[-1].size_bytes
    return Tensor(index, name, (size_bytes,), ElementType.INT8, "int8", (), (), None)


def _check_interface(what: str, tensors: Sequence[Tensor]) -> None:
    if not tensors:
        raise UnsupportedModelError(f"the model has no {what}. Check what was exported")
    if len({tensor.index for tensor in tensors}) != len(tensors):
        raise UnsupportedModelError(f"the model names one tensor as {what} twice. Name it once")
    for tensor in tensors:
        if tensor.type not in _INTERFACE_TYPES:
            raise UnsupportedModelError(
                f"the model's {what}, {tensor.label}, is {tensor.type_name}; {', '.join(_INTERFACE_TYPES)} are "
                "supported. Convert with full int8 quantisation"
            )
        if what == "input" and tensor.data is not None:
            raise UnsupportedModelError(f"the model's input, {tensor.label}, is a constant. Check what was exported")


def _needed(operators: Sequence[Operator], outputs: Sequence[Tensor]) -> list[Operator]:
    """Return the operators that the outputs or the state depend on, in order; shape arithmetic falls away."""
    wanted = {tensor.index for tensor in outputs}
    needed: list[Operator] = []
    for operator in reversed(operators):
        if operator.name == "ASSIGN_VARIABLE" or any(tensor.index in wanted for tensor in operator.outputs):
            needed.append(operator)
            inputs = operator.inputs[:1] if operator.name in ALIASES else operator.inputs
            wanted.update(tensor.index for tensor in inputs if tensor is not None)
    return needed[::-1]


def _require_bounded(operators: Iterable[Operator]) -> None:
    size_bytes = sum(
        len(tensor.data) for operator in operators for tensor in operator.inputs if tensor is not None and tensor.data
    )
    if size_bytes > _MAXIMUM_CONSTANT_BYTES:
        raise UnsupportedModelError(
            f"the model's operators read {size_bytes} bytes of constants; up to {_MAXIMUM_CONSTANT_BYTES} are "
            "supported. Make the model smaller"
        )


def _variable_tensors(operators: Iterable[Operator]) -> Iterable[Variable]:
    """Return the tensors that operators such as LSTM keep between inferences."""
    found: dict[int, Variable] = {}
    for operator in operators:
        for tensor in operator.inputs:
            if tensor is not None and tensor.is_variable and tensor.data is None:
                found.setdefault(
                    tensor.index, Variable(tensor, fill=tensor.zero_points[0] if tensor.zero_points else 0)
                )
    return found.values()


def _require_constant(operator: Operator, variable: Tensor) -> None:
    """Let an operator set what an LSTM keeps to a constant, as our conversion does for windows that stand alone."""
    if operator.name not in ALIASES or operator.input(0).data is None:
        raise operator.unsupported(
            f"it sets the variable {variable.label} to what it computes", "Set it to a constant, by a RESHAPE"
        )


def _require_inputs_known(operator: Operator, known: set[int]) -> None:
    # The shape that a RESHAPE is told at run time is not needed: the tensor's own is fixed.
    for tensor in operator.inputs[:1] if operator.name in ALIASES else operator.inputs:
        if tensor is not None and tensor.data is None and tensor.index not in known:
            raise operator.malformed(f"{tensor.label} is read before anything makes it")
