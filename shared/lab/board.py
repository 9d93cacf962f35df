"""Boards and the places they hang at. Times are seconds since the epoch."""

from dataclasses import dataclass

from shared.boards import BoardFacts
from shared.events.lab import BoardClass, Health


@dataclass(frozen=True, slots=True)
class Traits:
    """What requirements may ask about. Boards with equal traits are interchangeable."""

    board: str
    place: str
    board_class: BoardClass
    core: str
    clock_hz: int
    flash_bytes: int
    ram_bytes: int
    sensors: tuple[str, ...] = ()
    radios: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabBoard:
    """One board of the lab.

    Attributes:
        identity: What the hardware itself says: serial number or unique id. Checked before any flash.
    """

    name: str
    traits: Traits
    health: Health = Health.GOOD
    canary_due: bool = False
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """A rack, live as long as its gateway was heard within the policy's time: asked once per place, not per job."""

    name: str
    seen_s: float


def traits_of(facts: BoardFacts, place: str, board_class: BoardClass) -> Traits:
    """Return the traits of a board of the catalogue at a place."""
    return Traits(
        board=facts.name,
        place=place,
        board_class=board_class,
        core=facts.core,
        clock_hz=facts.clock_hz,
        flash_bytes=facts.flash_bytes,
        ram_bytes=facts.ram_bytes,
        sensors=facts.sensors,
        radios=facts.radios,
    )
