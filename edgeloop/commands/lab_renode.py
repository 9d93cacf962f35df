"""``edgeloop lab renode``: a board as Renode's files, with somebody's firmware."""

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from edgeloop.errors import UsageError
from edgeloop.options import JsonOption
from edgeloop.terminal import Terminal
from edgeloop.writing import require_writable


def renode(
    *,
    board: Annotated[str, typer.Option("--board", help="A board of the catalogue.")],
    elf: Annotated[Path, typer.Option("--elf", help="Its firmware.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option("--out", help="Where the files are written.", file_okay=False)],
    port: Annotated[int, typer.Option("--port", help="TCP port of its console.", min=1, max=65535)] = 3456,
    as_json: JsonOption = False,
) -> None:
    """Write a platform and a script by which Renode emulates a board with an ELF, its console at a TCP port.

    Renode itself is not needed here. Unproven: no Renode was at hand.
    """
    from edgeloop import compiling  # noqa: PLC0415 - numpy and the builder: a second only this command needs
    from shared.emulation.renode import files  # noqa: PLC0415 - as above

    terminal = Terminal(as_json)
    target, firmware = compiling.board_of(board), "firmware.elf"
    try:
        platform = files.platform_of(target)
    except files.NoPlatformError as error:
        raise UsageError(f"--board: {error}") from error
    script = files.script_of(target, files.Load(firmware), files.Wiring(port), start=True)
    require_writable("--out", out / files.SCRIPT_FILE)
    (out / files.PLATFORM_FILE).write_text(platform, "utf-8")
    (out / files.SCRIPT_FILE).write_text(script, "utf-8")
    shutil.copyfile(elf, out / firmware)
    names = (files.PLATFORM_FILE, files.SCRIPT_FILE, firmware)
    terminal.result({"out": str(out), "files": names, "port": port}, Text(f"{', '.join(names)} in {out}"))
    terminal.note(f"run it: `cd {out} && renode --console {files.SCRIPT_FILE}`; its console: socket://127.0.0.1:{port}")
