"""Files as the same bytes every time, so that the same commit gives the same release digest."""

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any, Final

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest date that a .zip can hold
_OBJECT_ID: Final = "shared_object_id"


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a .zip of `files`, sorted by name and without dates."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), files[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def canonical_keras(data: bytes) -> bytes:
    """Return a .keras file without what changes from one run to the next: dates, and addresses in memory.

    Raises:
        ValueError: it is not a .keras file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        metadata = json.loads(files["metadata.json"])
        configuration = json.loads(files["config.json"])
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"not a file of Keras 3 ({error}); write it with model.save('….keras')") from error
    metadata.pop("date_saved", None)
    numbers: dict[int, int] = {}
    return zipped(
        files
        | {
            "metadata.json": json.dumps(metadata).encode(),
            "config.json": json.dumps(_renumbered(configuration, numbers)).encode(),
        }
    )


def _renumbered(node: Any, numbers: dict[int, int]) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Replace the addresses that stand for shared objects by 1, 2, 3 in the order of their appearance."""
    if isinstance(node, dict):
        return {
            key: numbers.setdefault(value, len(numbers) + 1)
            if key == _OBJECT_ID and isinstance(value, int)
            else _renumbered(value, numbers)
            for key, value in node.items()
        }
    return [_renumbered(value, numbers) for value in node] if isinstance(node, list) else node
