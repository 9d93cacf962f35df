"""``edgeloop lab …``: the device lab."""

import typer

from edgeloop.commands import lab_testing

app = typer.Typer(help="Test firmware on boards, and share them.", no_args_is_help=True)
app.command(
    "test",
    epilog="Example: edgeloop lab test kws.tflite --board cortex-m4 --procedure acceptance --inputs kws01 "
    "--labels kws01/y_labels.csv --junit report.xml",
)(lab_testing.run_test)
