"""Which emulators there are: apart from them, so that a command line may offer them and import no more."""

from enum import StrEnum


class Emulator(StrEnum):
    """What stands for the boards."""

    UNICORN = "unicorn"
    QEMU = "qemu"
    RENODE = "renode"
    """Where it is on the PATH; unproven."""
    AUTO = "auto"
    """Unicorn; who has a second opinion asks QEMU for it where it is installed."""
