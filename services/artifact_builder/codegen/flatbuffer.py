"""Reads tables of a flatbuffer, and never outside it.

The official runtime follows whatever offsets it finds. Here each one is checked, and everything that is read is charged
to a budget: in a hostile file tables and vectors may overlap, so that a few kilobytes describe gigabytes.
Follows https://flatbuffers.dev/internals.
"""

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.artifact_builder.codegen.errors import MalformedModelError

_UINT32: Final = struct.Struct("<I").unpack_from
_INT32: Final = struct.Struct("<i").unpack_from
_UINT16: Final = struct.Struct("<H").unpack_from
_SCALARS: Final = {
    kind: (struct.Struct(f"<{kind}").unpack_from, struct.calcsize(f"<{kind}"))
    for kind in ("b", "B", "i", "I", "f", "Q")
}
_LONGEST_FILE_BYTES: Final = (1 << 31) - 1

# A sound file is read about once; shared strings and tables may make it twice.
_READS_PER_BYTE: Final = 8
_READS_FREE_BYTES: Final = 1 << 16
_TABLE_COST_BYTES: Final = 16


class Flatbuffer:
    """The bytes of a file, and how much of them may still be read."""

    __slots__ = ("_budget_bytes", "data")

    def __init__(self, data: bytes) -> None:
        """Take a file. Nothing is read yet."""
        if len(data) > _LONGEST_FILE_BYTES:
            raise MalformedModelError(f"the file has {len(data)} bytes; a flatbuffer has less than 2 GiB")
        self.data = data
        self._budget_bytes = _READS_FREE_BYTES + _READS_PER_BYTE * len(data)

    def root(self) -> "Table":
        """Return the table that the file begins with."""
        if len(self.data) < 4:
            raise self.corrupt("it ends before its first offset")
        return Table(self, _UINT32(self.data, 0)[0])

    def charge(self, size_bytes: int) -> None:
        """Count what is read.

        Raises:
            MalformedModelError: far more was read than the file holds: parts of it overlap.
        """
        self._budget_bytes -= size_bytes
        if self._budget_bytes < 0:
            raise self.corrupt(f"it describes more than {_READS_PER_BYTE} times its own size: parts of it overlap")

    def corrupt(self, why: str) -> MalformedModelError:
        """Return the error that says what is wrong with the file."""
        return MalformedModelError(
            f"the .tflite file of {len(self.data)} bytes is corrupt or truncated: {why}. "
            "Convert or fetch the model again"
        )


class Table:
    """One table. A field is named by its slot, its place in the schema counted from 0."""

    __slots__ = ("_at", "_file", "_slots", "_vtable")

    def __init__(self, file: Flatbuffer, at: int) -> None:
        """Check the table's vtable."""
        file.charge(_TABLE_COST_BYTES)
        size = len(file.data)
        if not 0 <= at <= size - 4:
            raise file.corrupt(f"a table should begin at byte {at}")
        vtable = at - _INT32(file.data, at)[0]
        if not 0 <= vtable <= size - 4:
            raise file.corrupt(f"the table at byte {at} has its fields listed at byte {vtable}")
        length = _UINT16(file.data, vtable)[0]
        if length < 4 or vtable + length > size:
            raise file.corrupt(f"the table at byte {at} has a list of fields of {length} bytes")
        self._file = file
        self._at = at
        self._vtable = vtable
        self._slots = length // 2 - 2

    def _field(self, slot: int, size_bytes: int) -> int:
        """Return where a field begins, 0 where it is left out."""
        if slot >= self._slots:
            return 0
        offset = _UINT16(self._file.data, self._vtable + 4 + 2 * slot)[0]
        if offset == 0:
            return 0
        at: int = self._at + offset
        if at + size_bytes > len(self._file.data):
            raise self._file.corrupt(f"field {slot} of the table at byte {self._at} begins at byte {at}")
        return at

    def _number(self, slot: int, kind: str, default: int) -> float:
        unpack, size_bytes = _SCALARS[kind]
        at = self._field(slot, size_bytes)
        value: float = unpack(self._file.data, at)[0] if at else default
        return value

    def integer(self, slot: int, kind: str = "i", default: int = 0) -> int:
        """Return a whole number; `kind` is a code of the module struct."""
        return int(self._number(slot, kind, default))

    def real(self, slot: int) -> float:
        """Return a float32."""
        return self._number(slot, "f", 0)

    def table(self, slot: int) -> "Table | None":
        """Return a nested table, None where it is left out."""
        at = self._field(slot, 4)
        return Table(self._file, at + _UINT32(self._file.data, at)[0]) if at else None

    def tables(self, slot: int) -> list["Table"]:
        """Return a vector of tables."""
        start, count = self._vector(slot, 4)
        data = self._file.data
        return [Table(self._file, at + _UINT32(data, at)[0]) for at in range(start, start + 4 * count, 4)]

    def count(self, slot: int, item_bytes: int = 4) -> int:
        """Return how many items a vector has, without reading them."""
        return self._vector(slot, item_bytes, charged=False)[1]

    def text(self, slot: int, longest: int) -> str:
        """Return at most so many characters of a string."""
        return bytes(self.raw(slot)[:longest]).decode("utf-8", "replace")

    def raw(self, slot: int) -> memoryview:
        """Return a vector of bytes."""
        start, count = self._vector(slot, 1)
        return memoryview(self._file.data)[start : start + count]

    def array(self, slot: int, dtype: str) -> NDArray[np.float32 | np.int32 | np.int64]:
        """Return a vector of numbers of a little-endian numpy type."""
        kind = np.dtype(dtype)
        start, count = self._vector(slot, kind.itemsize)
        found: NDArray[np.float32 | np.int32 | np.int64] = np.frombuffer(self._file.data, kind, count, start)
        return found

    def integers(self, slot: int, dtype: str = "<i4") -> tuple[int, ...]:
        """Return a vector of whole numbers."""
        if not self._field(slot, 4):
            return ()
        return tuple(self.array(slot, dtype).tolist())

    def _vector(self, slot: int, item_bytes: int, *, charged: bool = True) -> tuple[int, int]:
        field = self._field(slot, 4)
        if not field:
            return 0, 0
        data = self._file.data
        at = field + _UINT32(data, field)[0]
        if at > len(data) - 4:
            raise self._file.corrupt(f"a vector should begin at byte {at}")
        count = _UINT32(data, at)[0]
        if count * item_bytes > len(data) - at - 4:
            raise self._file.corrupt(f"a vector at byte {at} should have {count} items of {item_bytes} bytes")
        if charged:
            self._file.charge(count * item_bytes)
        return at + 4, count
