"""Rigs of emulated boards."""

from shared.boards import ImageBoard
from shared.emulation.emulators import Emulator
from shared.emulation.on_qemu import boot_qemu
from shared.emulation.on_renode import boot_renode
from shared.procedures import Rig


def emulated_rig(image: bytes, board: ImageBoard, emulator: Emulator) -> Rig:
    """Return how a signed image boots on an emulated board."""
    if emulator is Emulator.QEMU:
        return Rig(lambda: boot_qemu(image, board), lambda: boot_qemu(image, board))
    if emulator is Emulator.RENODE:
        return Rig(lambda: boot_renode(image, board), lambda: boot_renode(image, board))
    from shared.emulation.on_unicorn import boot_unicorn  # noqa: PLC0415 - keeps Unicorn out of a service's own process

    return Rig(
        lambda: boot_unicorn(image, board),
        lambda: boot_unicorn(image, board, count_instructions=True),
    )
