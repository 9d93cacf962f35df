"""An Arduino library (library specification 2.2): sources below ``src``, a sketch, ``library.properties``."""

from collections.abc import Mapping
from typing import Final

from services.artifact_builder.firmware.libraries.contents import (
    LibraryOrder,
    common_values,
    filled,
    readme,
    sources_of,
)

_FOLDER: Final = "src/edgeloop"
_ACCELERATION: Final = ("ax", "ay", "az")
_ROTATION: Final = ("gx", "gy", "gz")
_MOTION: Final = (
    "The sketch feeds the model the board's own motion sensor. Put your preprocessing's units into its first lines: "
    "a sketch cannot know them."
)
_GOLDEN: Final = "The sketch runs the self-test and times an inference; no sensor of the board is read."


def arduino_library(order: LibraryOrder) -> Mapping[str, str]:
    """Return the library's files by path, the root folder not included."""
    motion = order.target.motion_library if _reads_motion(order) else ""
    example = "Motion" if motion else "SelfTest"
    package, architecture = order.target.target.split(":")[:2]
    values = {
        **common_values(order),
        **_motion_values(order, motion),
        "CORE": f"{package}:{architecture}",
        "ARCHITECTURE": architecture,
        "DEPENDS": f"depends={motion}\n" if motion else "",
        "INSTALL_DEPENDENCY": f"arduino-cli lib install {motion}\n" if motion else "",
        "EXAMPLE": example,
        "SAMPLE": _MOTION if motion else _GOLDEN,
    }
    optimised = '#include "edgeloop_optimise.h"\n\n'
    sources = {
        f"{_FOLDER}/{name}": optimised + text if name.endswith(".c") else text
        for name, text in sources_of(order.model, order.facts).items()
    }
    return {
        **sources,
        f"{_FOLDER}/edgeloop_optimise.h": filled("arduino/optimise.h", {}),
        f"src/{order.facts.identifier}.h": filled("arduino/header.h", values),
        f"examples/{example}/{example}.ino": filled(f"arduino/{'motion' if motion else 'golden'}.ino", values),
        "library.properties": filled("arduino/library.properties", values),
        "README.md": readme(order, filled("arduino/build.md", values), f"{_FOLDER}/edgeloop.h"),
        "LICENSE": filled("LICENSE", {}),
    }


def _reads_motion(order: LibraryOrder) -> bool:
    """Whether the board's motion sensor gives what the model takes: windows of three or six named channels."""
    facts = order.facts
    known = facts.channels in (_ACCELERATION, _ACCELERATION + _ROTATION)
    return bool(order.target.motion_library) and known and len(facts.shape) == 2


def _motion_values(order: LibraryOrder, motion: str) -> dict[str, str]:
    if not motion:
        return {}
    rows, channels = order.facts.shape
    rotates = channels == len(_ACCELERATION + _ROTATION)
    return {
        "MOTION_LIBRARY": motion,
        "ROWS": str(rows),
        "CHANNELS": str(channels),
        "AND_ROTATION": " and rotation" if rotates else "",
        "OR_NO_ROTATION": " || !IMU.gyroscopeAvailable()" if rotates else "",
        "HAS_ROTATION": "1" if rotates else "0",
    }
