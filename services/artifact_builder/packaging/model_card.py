"""The model card: what the model is for, what it was made of, what it takes, how to check and repeat it.

After Mitchell et al., "Model Cards for Model Reporting" (2019), as far as a build can know; what only people know
(intended use, ethics) belongs into the repository's own documentation, which the snapshot holds.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from services.artifact_builder.packaging.facts import Facts
from shared.artifacts.card import BOARD_COLUMNS, board_cells
from shared.events import Blob
from shared.releases.licences import NOASSERTION
from shared.releases.manifest import Budget


def model_card(facts: Facts) -> str:
    """Return the card, in markdown."""
    sections: list[Callable[[Facts], Iterator[str]]] = [_purpose, _input_and_output, _files, _data, _boards]
    sections += [_libraries] if facts.release.libraries else []
    sections += [_gates, _limits, _verify, _reproduce]
    return "\n\n".join("\n".join(section(facts)) for section in sections) + "\n"


def _purpose(facts: Facts) -> Iterator[str]:
    release = facts.release
    licences = release.manifest.licences
    yield f"# {_plain(release.manifest.name)} {release.manifest.release}"
    yield ""
    yield (
        f"A classifier of {len(release.manifest.labels)} classes for microcontrollers, int8, built by Edgeloop "
        f"{facts.environment.edgeloop} because of a {release.trigger}."
    )
    yield ""
    yield from _table(
        ("", ""),
        [
            ("project", release.project),
            ("repository", _plain(release.repository)),
            ("commit", f"`{release.commit}`"),
            ("licence of the code", licences.code or NOASSERTION),
            ("licence of the data", licences.data or NOASSERTION),
            ("licence of the model", licences.model or NOASSERTION),
        ],
    )


def _input_and_output(facts: Facts) -> Iterator[str]:
    manifest, model = facts.release.manifest, facts.release.model
    window = manifest.input
    yield "## Input and output"
    yield ""
    channels = f", channels {', '.join(map(_plain, window.channels))}" if window.channels else ""
    shape = " x ".join(map(str, window.shape))
    yield f"* Input: {shape}{channels}; healthy values from {window.minimum:g} to {window.maximum:g}."
    yield f"* Quantised input: real = {model.input.scale!r} x (q - {model.input.zero_point})."
    yield f"* Quantised output: real = {model.output.scale!r} x (q - {model.output.zero_point})."
    yield f"* Numerics: {manifest.model.numerics}, bit by bit."
    yield f"* Labels: {', '.join(map(_plain, manifest.labels))}."
    if manifest.preprocessing:
        files = ", ".join(f"`{_plain(name)}`" for name in manifest.preprocessing.files)
        yield f"* Preprocessing: {files}, in the repository's snapshot."


def _files(facts: Facts) -> Iterator[str]:
    yield "## Model files"
    yield ""
    rows = [_file_row(blob) for blob in facts.model_files]
    yield from _table(("file", "bytes", "digest"), rows)
    recipe = facts.release.recipe
    if recipe:
        yield ""
        yield (
            f"Converted with TensorFlow {recipe.tensorflow} and Keras {recipe.keras}, {recipe.threads} thread, "
            f"seed {recipe.seed}."
        )
    conversion = facts.release.conversion
    if conversion and conversion.parity:
        found = conversion.parity
        yield ""
        yield (
            f"float32 against {_plain(found.runtime)} on {found.rows:,} rows: largest difference "
            f"{found.maximum_difference:.3g}, allowed {found.tolerance:.3g}; equal answers {found.equal_answers:.4f}."
        )
    for note in conversion.notes if conversion else ():
        yield ""
        yield f"Note: {_plain(note)}"


def _data(facts: Facts) -> Iterator[str]:
    yield "## Data"
    yield ""
    rows = [
        (part.name, part.role, f"{part.rows:,}", f"{part.groups:,}", f"`{part.blob.digest}`") for part in facts.datasets
    ]
    yield from _table(("dataset", "role", "rows", "persons or devices", "digest"), rows)


def _boards(facts: Facts) -> Iterator[str]:
    release = facts.release
    yield "## Boards"
    yield ""
    yield "Sizes are read from the ELF; the arena is part of the RAM. RAM is static: the stack is not in it."
    yield "Instructions of one inference were counted on the emulated core: they are no cycles."
    yield ""
    columns = (*BOARD_COLUMNS, "security counter", "budget", "toolchain")
    yield from _table(
        columns,
        [
            (
                *board_cells(firmware),
                "none" if firmware.security_counter is None else str(firmware.security_counter),
                _budget(release.manifest.budgets.get(firmware.board)),
                _plain(firmware.toolchain),
            )
            for firmware in release.firmware
        ],
    )


def _libraries(facts: Facts) -> Iterator[str]:
    yield "## Libraries"
    yield ""
    yield "For boards that no image is built for: model, kernels and a sample, to be built with the vendor's tools."
    yield ""
    rows = [
        (
            f"`{part.archive.name}`",
            part.kind,
            _bytes(part.flash_bytes),
            _bytes(part.ram_bytes),
            f"`{part.archive.digest}`",
        )
        for part in facts.release.libraries
    ]
    yield from _table(("library", "kind", "flash, bytes", "RAM, bytes", "digest"), rows)


def _bytes(size: int | None) -> str:
    return "not measured" if size is None else f"{size:,}"


def _budget(budget: Budget | None) -> str:
    said = {} if budget is None else budget.model_dump(exclude_none=True)
    return ", ".join(f"{name} {value:,}" for name, value in said.items()) or "the board's own size"


def _gates(facts: Facts) -> Iterator[str]:
    gates = facts.release.manifest.gates
    yield "## Gates"
    yield ""
    yield "A fleet sees this release only after these; the verdicts are events, not part of the artifact."
    yield ""
    yield from _table(
        ("gate", "allowed"),
        [
            ("accuracy on the test set, int8, top-1", f"at least {gates.accuracy:g}"),
            ("accuracy lost between float32 and int8", f"at most {gates.accuracy_loss:g}"),
            ("equal answers of float32 and int8", f"at least {gates.agreement:g}"),
            ("rows of evidence", f"at least {gates.minimum_rows:,}"),
        ],
    )


def _limits(facts: Facts) -> Iterator[str]:
    drift = facts.release.manifest.drift
    yield "## Limits"
    yield ""
    yield "* Outside the range above, and on sensors mounted otherwise than in the data, nothing is known."
    yield f"* The input counts as drifted above a population stability index of {drift.psi_threshold:g} in one channel."
    yield "* Nothing here was measured on hardware."


def _verify(_facts: Facts) -> Iterator[str]:
    yield "## Verify"
    yield ""
    yield "```sh"
    yield "edgeloop artifact verify DIRECTORY --key signing.pub.pem"
    yield "```"


def _reproduce(facts: Facts) -> Iterator[str]:
    environment = facts.environment
    yield "## Reproduce"
    yield ""
    yield (
        f"Push commit `{facts.release.commit}` to Edgeloop {environment.edgeloop} on {environment.python}, "
        f"{environment.platform}, with the packages of `environment/requirements.txt` and the key "
        f"`{facts.key.key_id}` ({facts.key.algorithm}). Equal inputs give equal digests."
    )


def _file_row(blob: Blob) -> tuple[str, str, str]:
    return f"`{blob.name}`", f"{blob.size_bytes:,}", f"`{blob.digest}`"


def _plain(text: str) -> str:
    """Return text that stays in its cell, and means nothing to markdown or HTML."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#" else char for char in " ".join(text.split()))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
