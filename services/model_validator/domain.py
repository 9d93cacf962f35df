"""The gates of a model, as pure functions of what the reference runtimes answered."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.boards import ImageBoard, LibraryBoard
from shared.events import Check, CheckOutcome
from shared.events.lab import Numerics
from shared.releases.gates import ROUNDING, outcome, wilson_interval
from shared.releases.manifest import Budget, Gates
from shared.releases.release import Firmware, Library


@dataclass(frozen=True, slots=True)
class Answers:
    """What both models answered to the test set.

    Attributes:
        labels: Class index of each row, shape (rows,).
        int8: The output tensors of the reference runtime of `numerics`, shape (rows, classes).
        float32: LiteRT's output tensors, shape (rows, classes); None when the model was int8 from the start.
        golden: Its output to the golden vector's input.
        numerics: Whose bits the firmware gives.
    """

    labels: npt.NDArray[np.int64]
    int8: npt.NDArray[np.int8]
    float32: npt.NDArray[np.float32] | None
    golden: bytes
    numerics: Numerics = Numerics.TFLM


@dataclass(frozen=True, slots=True)
class Fit:
    """One board, what may be taken of it, and the firmware built for it."""

    board: ImageBoard
    budget: Budget
    firmware: Firmware | None


@dataclass(frozen=True, slots=True)
class LibraryFit:
    """One board that gets libraries, what may be taken of it, and the libraries made for it."""

    board: LibraryBoard
    budget: Budget
    libraries: tuple[Library, ...]


def judge(
    answers: Answers, gates: Gates, classes: int, golden: bytes, fits: Iterable[Fit | LibraryFit]
) -> tuple[Check, ...]:
    """Return every gate's answer; `classes` is the number of labels, `golden` the output the release promises."""
    return (
        enough_rows(answers, gates),
        output_classes(answers, classes),
        int8_accuracy(answers, gates),
        *against_float32(answers, gates),
        golden_vector(answers, golden),
        *(check for fit in fits for check in (sizes(fit) if isinstance(fit, Fit) else library_sizes(fit))),
    )


def enough_rows(answers: Answers, gates: Gates) -> Check:
    """Too few rows judge nothing."""
    rows = len(answers.labels)
    enough = rows >= gates.minimum_rows
    return Check(
        name="enough-rows",
        outcome=CheckOutcome.PASSED if enough else CheckOutcome.INSUFFICIENT_EVIDENCE,
        observed=f"{rows} test rows",
        allowed=f"at least {gates.minimum_rows} (gates.minimum_rows)",
        detail="" if enough else "insufficient evidence does not pass a gate: add recordings to the test set",
    )


def output_classes(answers: Answers, classes: int) -> Check:
    """The model gives one score for each label."""
    outputs = {"int8": answers.int8} | ({} if answers.float32 is None else {"float32": answers.float32})
    found = {name: scores.shape[1] for name, scores in outputs.items()}
    right = all(count == classes for count in found.values())
    return Check(
        name="output-classes",
        outcome=outcome(right),
        observed=", ".join(f"{name} {count}" for name, count in found.items()),
        allowed=f"{classes} (labels)",
        detail="" if right else "give the model's last layer one output for each of labels in edgeloop.yaml",
    )


def int8_accuracy(answers: Answers, gates: Gates) -> Check:
    """The quantised model is accurate enough. The point estimate decides; the interval says how sure it is."""
    correct, rows = int((_classes(answers.int8) == answers.labels).sum()), len(answers.labels)
    low, high = wilson_interval(correct, rows)
    accuracy = correct / rows if rows else 0.0
    reached = rows > 0 and accuracy >= gates.accuracy - ROUNDING
    return Check(
        name="int8-accuracy",
        outcome=outcome(reached, rows=rows),
        observed=f"{accuracy:.4f} ({correct} of {rows}; 95 % interval {low:.4f} to {high:.4f}; {answers.numerics})",
        allowed=f"at least {gates.accuracy:g} (gates.accuracy)",
        detail="" if reached else "train longer or on more people, or lower gates.accuracy in edgeloop.yaml",
    )


def against_float32(answers: Answers, gates: Gates) -> tuple[Check, ...]:
    """Whether quantisation cost too much; of a model that its author quantised, that nothing can be said about it.

    The absence is the manifest's own declaration (a .tflite is int8), which also forbids gates that need the reference:
    it passes, and says what was not judged.
    """
    if answers.float32 is not None:
        return (accuracy_loss(answers, answers.float32, gates), agreement(answers, answers.float32, gates))
    return (
        Check(
            name="float32-reference",
            outcome=CheckOutcome.PASSED,
            observed="none: the repository's model is int8 already",
            allowed="a float32 model, or a .tflite that its author quantised",
            detail="what quantisation cost is not judged; int8-accuracy is the model's own, on the test set",
        ),
    )


def accuracy_loss(answers: Answers, reference: npt.NDArray[np.float32], gates: Gates) -> Check:
    """Quantisation did not cost too much."""
    rows = len(answers.labels)
    float32, int8 = (_accuracy(outputs, answers.labels) for outputs in (reference, answers.int8))
    reached = float32 - int8 <= gates.accuracy_loss + ROUNDING
    return Check(
        name="accuracy-loss",
        outcome=outcome(reached, rows=rows),
        observed=f"{float32 - int8:.4f} ({Numerics.LITERT} float32 {float32:.4f}, {answers.numerics} int8 {int8:.4f})",
        allowed=f"at most {gates.accuracy_loss:g} (gates.accuracy_loss)",
        detail="" if reached else "look at the input's range: outliers stretch the scale; then train with quantisation",
    )


def agreement(answers: Answers, reference: npt.NDArray[np.float32], gates: Gates) -> Check:
    """The quantised model answers as the one that was trained."""
    rows = len(answers.labels)
    equal = int((_classes(answers.int8) == _classes(reference)).sum())
    share = equal / rows if rows else 0.0
    reached = share >= gates.agreement - ROUNDING
    return Check(
        name="int8-float32-agreement",
        outcome=outcome(reached, rows=rows),
        observed=f"{share:.4f} ({equal} of {rows} equal answers, {answers.numerics} against {Numerics.LITERT})",
        allowed=f"at least {gates.agreement:g} (gates.agreement)",
        detail=""
        if reached
        else "the models differ where they are unsure: look at the input's range and the layers' scales",
    )


def golden_vector(answers: Answers, promised: bytes) -> Check:
    """The output that boards are told to expect is what the reference gives."""
    same = answers.golden == promised
    return Check(
        name="golden-vector",
        outcome=outcome(same),
        observed=answers.golden.hex(),
        allowed=f"{promised.hex()}, bit by bit ({answers.numerics})",
        detail="" if same else "builder and validator run different versions of the reference: install the pinned one",
    )


def sizes(fit: Fit) -> tuple[Check, ...]:
    """The board's flash and RAM hold the firmware, within the project's budget."""
    board, budget, firmware = fit.board, fit.budget, fit.firmware
    if firmware is None:
        missing = Check(
            name=f"firmware-{board.name}",
            outcome=CheckOutcome.FAILED,
            observed="no firmware in the release",
            allowed="one for every board of the manifest",
            detail="build the commit again; if it stays away, report a fault of the builder",
        )
        return (missing,)
    room = {
        "flash": (firmware.flash_bytes, board.slot_bytes, budget.flash_bytes, "the board's slot"),
        "ram": (
            firmware.ram_bytes,
            board.ram_bytes - board.stack_bytes,
            budget.ram_bytes,
            f"the board's RAM less {board.stack_bytes} of stack",
        ),
    }
    return tuple(
        _size(f"{what}-{board.name}", needed, available, (budgeted, f"budgets.{board.name}.{what}_bytes"), limit)
        for what, (needed, available, budgeted, limit) in room.items()
    )


def library_sizes(fit: LibraryFit) -> tuple[Check, ...]:
    """Every library that the board asks for is there; where its core has a compiler, model and kernels alone fit."""
    board, made = fit.board, {library.kind: library for library in fit.libraries}
    checks = []
    for target in board.libraries:
        library = made.get(target.kind)
        name = f"{board.name}-{target.kind}"
        checks.append(
            Check(
                name=f"library-{name}",
                outcome=outcome(library is not None),
                observed="a library for the vendor's tools" if library else "no library in the release",
                allowed="one for every board of the manifest without an image",
                detail="" if library else "build the commit again; if it stays away, report a fault of the builder",
            )
        )
        if library is None or library.flash_bytes is None or library.ram_bytes is None:
            continue
        room = {
            "flash": (library.flash_bytes, target.program_bytes, fit.budget.flash_bytes),
            "ram": (library.ram_bytes, target.data_bytes, fit.budget.ram_bytes),
        }
        for what, (needed, available, budgeted) in room.items():
            budget = (budgeted, f"budgets.{board.name}.{what}_bytes")
            checks.append(
                _size(f"{what}-{name}", needed, available, budget, "what the board's tools leave to a program")
            )
    return tuple(checks)


def _size(name: str, needed: int, available: int, budget: tuple[int | None, str], limit: str) -> Check:
    budgeted, key = budget
    allowed, source = (available, limit) if budgeted is None or budgeted > available else (budgeted, key)
    fits = needed <= allowed
    return Check(
        name=name,
        outcome=outcome(fits),
        observed=f"{needed} bytes",
        allowed=f"at most {allowed} bytes ({source})",
        detail=""
        if fits
        else f"{needed - allowed} bytes too many: use fewer filters, or leave the board out of boards",
    )


def _classes(outputs: npt.NDArray[np.int8] | npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    classes: npt.NDArray[np.intp] = np.argmax(outputs, axis=1)
    return classes


def _accuracy(outputs: npt.NDArray[np.int8] | npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    return float((_classes(outputs) == labels).mean()) if len(labels) else 0.0
