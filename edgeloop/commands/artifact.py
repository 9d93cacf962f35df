"""``edgeloop artifact list|show|export|verify``: what was built, as a whole that proves where it came from."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from edgeloop.errors import ExitCode
from edgeloop.options import DEFAULT_DATA, DataOption, JsonOption, NatsUrlOption
from edgeloop.reading import readable_bus
from edgeloop.terminal import Terminal
from shared.events import Check, CheckOutcome, digest_of
from shared.events.artifact import ArtifactBuilt

if TYPE_CHECKING:
    from shared.artifacts.oci import ArtifactManifest

app = typer.Typer(help="Look at artifacts, export them and verify them.", no_args_is_help=True)

TargetArgument = Annotated[
    str, typer.Argument(metavar="TARGET", help="A digest in a stack's object store, or an exported directory.")
]
DigestArgument = Annotated[str, typer.Argument(metavar="DIGEST", help="As `edgeloop artifact list` shows it.")]


@app.command("list")
def list_artifacts(
    *, data: DataOption = DEFAULT_DATA, nats_url: NatsUrlOption = None, as_json: JsonOption = False
) -> None:
    """List the artifacts that the bus still knows, newest last."""
    from edgeloop.artifacts import built  # noqa: PLC0415 - as below: signatures and licences take half a second

    terminal = Terminal(as_json)
    with readable_bus(nats_url, data, terminal.note) as url:
        events = asyncio.run(built(url))
    table = Table("digest", "project", "commit", "because of", "built", box=None)
    found = {}
    for event in events:
        if isinstance(event.data, ArtifactBuilt):
            found[event.data.digest] = event.data.model_dump(mode="json") | {"time": event.time.isoformat()}
    for built_one in found.values():
        table.add_row(
            *(built_one["digest"], built_one["project"], built_one["commit"][:12], built_one["trigger"]),
            built_one["time"][:19],
        )
    nothing = Text("no artifacts yet: push to a repository with an installed hook (`edgeloop hook install REPO`)")
    terminal.result(list(found.values()), table if found else nothing)


@app.command(epilog="Example: edgeloop artifact show sha256:5a…")
def show(
    target: TargetArgument,
    *,
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what an artifact consists of. Checks nothing: that is `verify`."""
    from edgeloop.artifacts import is_digest, manifest_in, manifest_of, stored  # noqa: PLC0415 - as above

    terminal = Terminal(as_json)
    if is_digest(target):
        with readable_bus(nats_url, data, terminal.note) as url:
            manifest = manifest_of(asyncio.run(stored(url, target)))
    else:
        manifest = manifest_in(Path(target))
    digest = digest_of(manifest.to_bytes())
    terminal.result(manifest.model_dump(mode="json") | {"digest": digest}, _files(manifest, digest))


@app.command(epilog="Example: edgeloop artifact export sha256:5a… --out artifact && skopeo inspect --raw oci:artifact")
def export(
    digest: DigestArgument,
    *,
    out: Annotated[Path, typer.Option("--out", help="A directory that does not exist yet, or is empty.")],
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write an artifact as an OCI image layout, each file also under its title."""
    from edgeloop.artifacts import export as write  # noqa: PLC0415 - as above
    from edgeloop.artifacts import manifest_of, require_digest, stored  # noqa: PLC0415

    terminal = Terminal(as_json)
    wanted = require_digest(digest)
    with readable_bus(nats_url, data, terminal.note) as url:
        found = asyncio.run(stored(url, wanted))
    write(found, out)
    titles = [file.title for file in manifest_of(found).files]
    said = f"{len(titles)} files in {out}; check them with `edgeloop artifact verify {out}`"
    terminal.result({"digest": digest, "out": str(out), "files": titles}, Text(said))


@app.command(epilog="Example: edgeloop artifact verify artifact --key signing.pub.pem")
def verify(
    target: TargetArgument,
    *,
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", help="A public key that may sign, PEM; may be repeated. Default: the key of --data."),
    ] = None,
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check everything an artifact says: digests, signatures, provenance, bill of materials. Exit code 1 if it fails.

    Nothing but the artifact and the trusted keys is needed: no network, no service.
    """
    from edgeloop.artifacts import is_digest, stored, trusted_keys, verified, verified_directory  # noqa: PLC0415

    terminal = Terminal(as_json)
    by_digest = is_digest(target)
    trusted = trusted_keys(key or [], data)
    if by_digest:
        with readable_bus(nats_url, data, terminal.note) as url:
            checks = verified(asyncio.run(stored(url, target)), target, trusted)
    else:
        checks = verified_directory(Path(target), trusted)
    terminal.result([check.model_dump(mode="json") for check in checks], _report(checks))
    passed = all(check.outcome is CheckOutcome.PASSED for check in checks)
    raise typer.Exit(ExitCode.OK if passed else ExitCode.GATE_FAILED)


_MARKS: Final = {
    CheckOutcome.PASSED: ("passed", "green"),
    CheckOutcome.FAILED: ("failed", "bold red"),
    CheckOutcome.INSUFFICIENT_EVIDENCE: ("open", "yellow"),
}


def _report(checks: Sequence[Check]) -> Table:
    table = Table("", "check", "found", "allowed", box=None)
    for check in checks:
        table.add_row(Text(*_MARKS[check.outcome]), check.name, Text(check.observed), Text(check.allowed))
    return table


def _files(manifest: "ArtifactManifest", digest: str) -> Table:
    table = Table("file", "type", "bytes", "digest", title=digest, caption=" ".join(_said(manifest)), box=None)
    for file in manifest.files:
        table.add_row(Text(file.title), file.mediaType, f"{file.size:,}", file.digest)
    return table


def _said(manifest: "ArtifactManifest") -> Iterator[str]:
    for name, value in manifest.annotations.items():
        yield f"{name.rpartition('.')[2]} {value}"
