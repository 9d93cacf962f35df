"""What a job asks of a board, as text: ``ram>=64k; core in cortex-m4,cortex-m7; sensor has microphone``."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from shared.lab.board import Traits


class RequirementError(ValueError):
    """A requirement nobody can read. The message names the place, what was found, what is allowed, and what to do."""


@dataclass(frozen=True, slots=True)
class Predicate:
    """One condition: a trait, an operator, and what to compare with."""

    trait: str
    operator: str
    values: tuple[str | int, ...]

    def holds(self, traits: Traits) -> bool:
        """Tell whether a board with these traits will do."""
        if self.trait in _NUMBERS:
            (least,) = self.values
            found = _NUMBERS[self.trait](traits)
            return found >= int(least) if self.operator == ">=" else found <= int(least)
        if self.trait in _LISTS:
            words = " ".join(_LISTS[self.trait](traits)).casefold()
            return all(str(value) in words for value in self.values)
        return _NAMES[self.trait](traits) in self.values

    def __str__(self) -> str:
        """Return the text that parses to this."""
        space = "" if self.operator in (">=", "<=") else " "
        return f"{self.trait}{space}{self.operator}{space}{','.join(map(str, self.values))}"


@dataclass(frozen=True, slots=True)
class Requirement:
    """All conditions on one board; none: any board."""

    predicates: tuple[Predicate, ...] = ()

    def holds(self, traits: Traits) -> bool:
        """Tell whether a board with these traits meets every condition."""
        return all(predicate.holds(traits) for predicate in self.predicates)

    def __str__(self) -> str:
        """Return the text that parses to this; `any` without conditions."""
        return "; ".join(map(str, self.predicates)) or "any"


ANY: Final = Requirement()
_NUMBERS: Final[dict[str, Callable[[Traits], int]]] = {
    "ram": lambda traits: traits.ram_bytes,
    "flash": lambda traits: traits.flash_bytes,
    "clock": lambda traits: traits.clock_hz,
}
_NAMES: Final[dict[str, Callable[[Traits], str]]] = {
    "board": lambda traits: traits.board,
    "core": lambda traits: traits.core,
    "class": lambda traits: traits.board_class,
    "place": lambda traits: traits.place,
}
_LISTS: Final[dict[str, Callable[[Traits], tuple[str, ...]]]] = {
    "sensor": lambda traits: traits.sensors,
    "radio": lambda traits: traits.radios,
}
_BYTES: Final = {"": 1, "k": 1024, "m": 1024**2}
_HERTZ: Final = {"": 1, "k": 1000, "m": 1_000_000}
_PREDICATE: Final = re.compile(r"\s*([a-z_]+)\s*(>=|<=|=|\bin\b|\bhas\b)\s*(.*?)\s*")
_NUMBER: Final = re.compile(r"(\d+)\s*([km]?)", re.IGNORECASE)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_EXAMPLE: Final = "ram>=64k; core in cortex-m4,cortex-m7; sensor has microphone"


def parse_requirement(text: str) -> Requirement:
    """Read conditions separated by semicolons.

    Raises:
        RequirementError: a condition cannot be read.
    """
    if text.strip() in ("", "any"):
        return ANY
    return Requirement(tuple(_predicate(part, number) for number, part in enumerate(text.split(";"), 1)))


def _predicate(text: str, number: int) -> Predicate:
    match = _PREDICATE.fullmatch(text)
    if match is None:
        raise _error(number, text.strip(), "a trait, one of >= <= = in has, and a value")
    trait, operator, value = match.groups()
    allowed = _operators(trait)
    if not allowed:
        raise _error(number, trait, f"one of {', '.join([*_NUMBERS, *_NAMES, *_LISTS])}")
    if operator not in allowed:
        raise _error(number, text.strip(), f"{trait} with {' or '.join(allowed)}")
    if trait in _NUMBERS:
        return Predicate(trait, operator, (_number(trait, value, number),))
    names = tuple(name.strip().casefold() for name in value.split(","))
    if wrong := [name for name in names if not _NAME.fullmatch(name)]:
        raise _error(number, repr(wrong[0]), f"names of letters, digits, _ . - after {trait} {operator}")
    return Predicate(trait, "in" if operator == "=" else operator, names)


def _operators(trait: str) -> tuple[str, ...]:
    if trait in _NUMBERS:
        return (">=", "<=")
    if trait in _NAMES:
        return ("in", "=")
    return ("has",) if trait in _LISTS else ()


def _number(trait: str, text: str, number: int) -> int:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise _error(number, repr(text), f"a whole number, with k or M, after {trait}")
    units = _HERTZ if trait == "clock" else _BYTES
    return int(match[1]) * units[match[2].casefold()]


def _error(number: int, found: str, allowed: str) -> RequirementError:
    return RequirementError(
        f"requirement, condition {number}: found {found}; allowed is {allowed}. Next: write it like `{_EXAMPLE}`"
    )
