"""A conversation over a slow line, in the line's own time."""

import pytest

from shared.mlperf_tiny.session import Loading, Session

VWW_BYTES = 96 * 96 * 3
PRINTED_A_LINE = 16


class SlowBoard:
    """A board that loads and prints, at 9600 baud: an answer that takes longer than is waited does not come."""

    name = "a slow line"
    BYTE_S = 10 / 9600

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._wanted = 0

    def exchange(self, request: bytes, answers: int, *, timeout_s: float) -> bytes:
        assert answers == 1
        answer = self._answered(request)
        return answer if (len(request) + len(answer)) * self.BYTE_S <= timeout_s else b""

    def close(self) -> None:
        """Nothing is held."""

    def _answered(self, request: bytes) -> bytes:
        command, _, rest = request.partition(b"%")
        words = command.split()
        if words[:2] == [b"db", b"bin"]:
            self._buffer[:] = rest
            said = [b"m-load-done"]
        elif words[:2] == [b"db", b"load"]:
            self._buffer.clear()
            self._wanted = int(words[2])
            said = [b"m-[Expecting %d bytes]" % self._wanted]
        elif words[:2] == [b"db", b"print"]:
            lines = [self._buffer[at : at + PRINTED_A_LINE] for at in range(0, len(self._buffer), PRINTED_A_LINE)]
            said = [b"m-buffer-" + line.hex("-").encode() for line in lines]
        elif words[0] == b"name":
            said = [b"m-name-dut-[slow]"]
        else:
            self._buffer += bytes.fromhex(words[1].decode())
            said = [b"m-load-done"] if len(self._buffer) == self._wanted else []
        return b"".join(line + b"\r\n" for line in (*said, b"m-ready"))


@pytest.mark.parametrize("loading", list(Loading))
def test_the_largest_inputs_are_loaded_and_read_back_on_the_slowest_line(loading: Loading) -> None:
    Session(SlowBoard()).load(bytes(range(256)) * (VWW_BYTES // 256), loading)
