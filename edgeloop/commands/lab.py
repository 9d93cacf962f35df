"""``edgeloop lab …``: the device lab."""

import typer

from edgeloop.commands import (
    lab_asking,
    lab_console,
    lab_inventory,
    lab_looking,
    lab_renode,
    lab_submitting,
    lab_testing,
)

app = typer.Typer(help="Test firmware on boards, and share them.", no_args_is_help=True)
app.command(
    "test",
    epilog="Example: edgeloop lab test kws.tflite --board cortex-m4 --procedure acceptance --inputs kws01 "
    "--labels kws01/y_labels.csv --junit report.xml",
)(lab_testing.run_test)
app.command("boards", epilog='Example: edgeloop lab boards --need "core in cortex-m4; ram>=64k" --watch')(
    lab_looking.boards
)
app.command("jobs", epilog="Example: edgeloop lab jobs --project gestures --all")(lab_looking.jobs)
app.command("history", epilog="Example: edgeloop lab history --project gestures --trend --junit report.xml")(
    lab_looking.history
)
app.command(
    "submit", epilog="Example: edgeloop lab submit sha256:… --board cortex-m4 --procedure acceptance --count 2 --wait"
)(lab_submitting.submit)
app.command("reserve", epilog='Example: edgeloop lab reserve --need "core in cortex-m4" --for 1h --hold')(
    lab_asking.reserve
)
app.add_typer(lab_asking.lease, name="lease")
app.command("release", epilog="Example: edgeloop lab release m4-1")(lab_asking.release)
app.command("health", epilog='Example: edgeloop lab health m4-1 take-out --reason "new antenna"')(lab_asking.health)
app.command("console", epilog="Example: echo 'name%' | edgeloop lab console m4-1 --reset")(lab_console.console)
app.command("import", epilog="Example: edgeloop lab import --twister hardware-map.yaml --place rack-3")(
    lab_inventory.import_
)
app.command("export", epilog="Example: edgeloop lab export --inventory lab.yaml --twister hardware-map.yaml")(
    lab_inventory.export
)
app.command(
    "renode",
    epilog="Example: edgeloop lab renode --board arduino-nano-33-ble-sense --elf sketch.elf --out build/renode",
)(lab_renode.renode)
