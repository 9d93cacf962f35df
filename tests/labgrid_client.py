"""What stands in for labgrid's client: prints what labgrid 26.0 prints, and keeps who has its one place in a file."""

import sys
from pathlib import Path

CLIENT = """\
#!{python}
# Keeps who has the place in a file beside itself, and prints as labgrid's client does.
import os, pathlib, sys
_, _, place, command = sys.argv
holder = pathlib.Path(__file__).with_name("holder")
by = holder.read_text() if holder.exists() else ""

def fail(said):
    sys.exit("labgrid-client: Error: " + said)

if place != "board1":
    fail(f"place pattern {{place}} matches nothing")
if command == "acquire":
    if by:
        fail(f"Place board1 is already acquired by {{by}}. To work simultaneously, ada can execute 'x' on rack.")
    holder.write_text("here/us")
    print("acquired place board1")
elif command == "release":
    if not by:
        fail("place board1 is not acquired")
    holder.unlink()
    print("released place board1")
elif command == "show":
    print("Place 'board1':\\n  matches:\\n    rack/*/*")
    print(f"  acquired: {{by or None}}\\n  acquired resources:")
    print(holder.with_name("resources").read_text(), end="")
"""
PORT = """\
Acquired resource '{name}' (rack/usb1/{cls}/{name}):
  {{'acquired': 'board1',
   'avail': {avail},
   'cls': '{cls}',
   'params': {{'extra': {{'path': "it's /dev/ttyUSB0"}},
              'host': '{host}',
              'port': {number},
              'protocol': '{protocol}',
              'speed': 9600}}}}
"""


def port(
    name: str = "console",
    cls: str = "NetworkSerialPort",
    *,
    avail: bool = True,
    protocol: str = "rfc2217",
    host: str = "rack",
    number: int = 4711,
) -> str:
    """Return what the client shows of a resource."""
    return PORT.format(name=name, cls=cls, avail=avail, protocol=protocol, host=host, number=number)


def install_client(folder: Path, resources: str) -> None:
    """Put the client, and what its place `board1` shares, into a folder."""
    client = folder / "labgrid-client"
    client.write_text(CLIENT.format(python=sys.executable))
    client.chmod(0o755)
    (folder / "resources").write_text(resources)
