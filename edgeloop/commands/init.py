"""``edgeloop init``: a first edgeloop.yaml, by asking."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.text import Text

from edgeloop.errors import UsageError
from edgeloop.options import JsonOption
from edgeloop.terminal import Terminal
from shared.boards import catalogue, image_boards

if TYPE_CHECKING:
    from edgeloop.initialising import Answers, Found

T = TypeVar("T")


def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The repository's folder.", file_okay=False)] = Path(),
    *,
    name: Annotated[str | None, typer.Option("--name", help="For people.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="A class; once for each, in order.")] = None,
    shape: Annotated[str | None, typer.Option("--shape", help="Of one window, for example 64,3.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="A model file of the repository.")] = None,
    board: Annotated[list[str] | None, typer.Option("--board", help="Of the catalogue; repeat for more.")] = None,
    accuracy: Annotated[
        float | None, typer.Option("--accuracy", min=0, max=1, help="Smallest, on the test set.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take what was found.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over an edgeloop.yaml.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write an edgeloop.yaml, with what the folder already says as answers to choose from."""
    from edgeloop import initialising  # noqa: PLC0415 - numpy: half a second only this command needs

    terminal = Terminal(as_json)
    initialising.require_new(path, force=force)
    found = initialising.look_around(path)
    given = _Given(name, label, shape, model, board, accuracy)
    answers = _answers(found, given, _Questions(silent=yes))
    manifest, schema = initialising.write(path, initialising.manifest_text(answers), force=force)
    terminal.result(
        {"manifest": str(manifest), "schema": str(schema)},
        Text(f"wrote {manifest}, and {schema} for editors. Next: edgeloop check {path}"),
    )


@dataclass(frozen=True, slots=True)
class _Given:
    """Answers by option."""

    name: str | None
    labels: list[str] | None
    shape: str | None
    model: str | None
    boards: list[str] | None
    accuracy: float | None


class _Questions:
    """Asks on stderr; silent, it takes what was found."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent

    def ask(self, question: str, default: str | None, read: Callable[[str], T], *, option: str) -> T:
        """Return the answer, asked for again until it can be read.

        Raises:
            UsageError: nothing may be asked, and there is no usable default.
        """
        if self._silent:
            if default is None:
                raise UsageError(f"{question}: the folder does not say", next_step=f"give {option}, or leave out --yes")
            return read(default)
        while True:
            try:
                return read(str(typer.prompt(question, default=default, err=True)).strip())
            except ValueError as error:
                typer.echo(f"  {error}", err=True)


def _answers(found: "Found", given: _Given, questions: _Questions) -> "Answers":
    from edgeloop.initialising import PREPARE_SCRIPT, TRAIN_SCRIPT, Answers  # noqa: PLC0415 - as in init

    def asked(option: str, value: str | None, question: str, default: str | None, read: Callable[[str], T]) -> T:
        return read(value) if value is not None else questions.ask(question, default, read, option=option)

    try:
        name = asked("--name", given.name, "Name, for people", found.name, str)
        classes = None if found.classes is None else " ".join(f"class-{index}" for index in range(found.classes))
        labels = tuple(given.labels) if given.labels else asked("--label", None, "Labels, in order", classes, _words)
        window = None if found.shape is None else ",".join(map(str, found.shape))
        shape = asked("--shape", given.shape, "Shape of one window, channels last", window, _shape)
        finished = given.model or (None if found.trains else found.model)
        boards = (
            tuple(map(_board, given.boards))
            if given.boards
            else asked("--board", None, f"Boards ({', '.join(image_boards())})", "cortex-m4", _boards)
        )
        accuracy = (
            given.accuracy
            if given.accuracy is not None
            else asked("--accuracy", None, "Smallest accuracy on the test set", "0.8", _share)
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    prepares = found.prepares or found.train is None
    return Answers(
        name=name,
        labels=labels,
        shape=shape,
        minimum=found.minimum,
        maximum=found.maximum,
        prepare=PREPARE_SCRIPT if prepares else None,
        train_data="train.npz" if prepares else found.train or "train.npz",
        test_data="test.npz" if prepares else found.test or "test.npz",
        train=None if finished else TRAIN_SCRIPT,
        model=finished or "model.keras",
        boards=boards,
        accuracy=accuracy,
        licence=found.licence,
    )


def _words(text: str) -> tuple[str, ...]:
    words = tuple(text.replace(",", " ").split())
    if len(words) < 2:
        raise ValueError(f"{text!r}: at least two labels, with spaces between them")
    return words


def _shape(text: str) -> tuple[int, ...]:
    parts = text.replace("x", ",").replace(" ", "").split(",")
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"{text!r}: whole numbers with commas between them, for example 64,3")
    return tuple(map(int, parts))


def _boards(text: str) -> tuple[str, ...]:
    return tuple(map(_board, text.replace(",", " ").split()))


def _board(name: str) -> str:
    if name not in catalogue():
        raise ValueError(f"{name!r} is no board of the catalogue: {', '.join(catalogue())}")
    return name


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(f"{text}: a share between 0 and 1")
    return value
