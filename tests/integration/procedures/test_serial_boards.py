"""Boards behind a port: real firmware on QEMU's TCP serial line, and what a bad cable makes of it, by name."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.bench.at_port import restored
from edgeloop.errors import UsageError
from services.artifact_builder.codegen import generate
from services.artifact_builder.codegen.reader import read_graph
from services.artifact_builder.measuring import probing_inputs
from shared.events import digest_of
from shared.inference.tflm import tflm_outputs
from shared.mlperf_tiny import DutError, Trouble
from shared.mlperf_tiny.serial_line import SerialLine
from shared.mlperf_tiny.session import Loading, Patience, Session, hex_commands
from shared.mlperf_tiny.windows import Window, measure, more_inferences
from tests.support import ROOT

MODEL = (ROOT / "tests" / "data" / "models" / "cnn_1d.tflite").read_bytes()

pytestmark = pytest.mark.skipif(
    which("qemu-system-arm") is None, reason="needs qemu-system-arm: apt-get install qemu-system-arm"
)


@dataclass
class Cable:
    """What happens to the bytes on their way, from the host and to it."""

    there: Callable[[bytes], bytes] = bytes
    back: Callable[[bytes], bytes] = bytes
    echoes: bool = False


BOOTED = Patience(boot_s=0.1)
"""The board here is on before anybody listens, and does not greet."""


@contextmanager
def through(board: int, cable: Cable, patience: Patience = BOOTED) -> Iterator[Session]:
    """A session with the board over a cable that may be bad."""
    device = _connected(board)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        threading.Thread(target=_carry, args=(server, device, cable), daemon=True).start()
        with closing(SerialLine(f"socket://127.0.0.1:{server.getsockname()[1]}")) as line:
            yield Session(line, patience)


def _carry(server: socket.socket, device: socket.socket, cable: Cable) -> None:
    host, _ = server.accept()
    with closing(host), closing(device):
        back = threading.Thread(target=_pump, args=(device, host, cable.back), daemon=True)
        back.start()
        while data := _received(host):
            if cable.echoes:
                host.sendall(data)
            device.sendall(cable.there(data))


def _pump(source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes]) -> None:
    try:
        while data := _received(source):
            target.sendall(change(data))
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the host has hung up


def _received(source: socket.socket) -> bytes:
    try:
        return bytes(source.recv(4096))
    except OSError:
        return b""


def _connected(port: int) -> socket.socket:
    deadline = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@pytest.mark.parametrize("loading", list(Loading))
def test_a_board_at_a_port_is_greeted_loaded_run_and_read(board: int, tensor: bytes, loading: Loading) -> None:
    with through(board, Cable()) as session:
        identity = session.greet()
        assert identity.vendor == "edgeloop"
        assert identity.info is not None
        assert identity.info.model_digest == digest_of(MODEL)
        session.load(tensor, loading)
        run = session.infer(3, 1)
        assert run.end_us > run.begin_us
        [expected] = tflm_outputs(MODEL, np.frombuffer(tensor, np.int8)[np.newaxis])
        assert session.output(identity.info.output_bytes) == expected.tobytes()
        assert len(run.results) == expected.size


def test_performance_is_the_median_of_windows_that_are_long_enough(board: int, tensor: bytes) -> None:
    with through(board, Cable()) as session:
        session.greet()
        found = measure(session, tensor, windows=5, window_s=0.05)
    assert len(found.windows) == 5
    assert sorted(window.latency_ms for window in found.windows)[2] == found.latency_ms
    assert all(window.board_s >= 0.05 for window in found.windows)
    assert len({window.inferences for window in found.windows}) == 1


@pytest.mark.parametrize(
    ("board_s", "host_s", "agree"), [(10.0, 10.1, True), (10.0, 10.8, False), (10.0, 2.0, False), (10.2, 10.0, True)]
)
def test_a_latency_is_measured_only_where_the_boards_second_is_one(board_s: float, host_s: float, agree: bool) -> None:
    assert Window(100, board_s, host_s).clocks_agree is agree


@given(
    inferences=st.integers(1, 10**6),
    board_s=st.floats(1e-6, 9.999, allow_nan=False),
    window_s=st.floats(10, 60, allow_nan=False),
)
def test_a_short_window_is_followed_by_more_inferences(inferences: int, board_s: float, window_s: float) -> None:
    more = more_inferences(Window(inferences, board_s, board_s), window_s)
    assert more > inferences
    assert more / inferences * board_s >= window_s * 1.04


@given(st.binary(max_size=500))
def test_inputs_are_sent_in_commands_of_eighty_characters(raw: bytes) -> None:
    commands = list(hex_commands(raw))
    assert all(len(command) <= 80 for command in commands)
    digits = b"".join(command.removeprefix(b"db ").removesuffix(b"%") for command in commands)
    assert bytes.fromhex(digits.decode()) == raw


class DropsOne:
    """Loses one byte of a long command, as a UART without a buffer does."""

    def __init__(self) -> None:
        self.lost = False

    def __call__(self, data: bytes) -> bytes:
        at = data.find(b"db ")
        if self.lost or at < 0 or len(data) < 40:
            return data
        self.lost = True
        return data[: at + 10] + data[at + 11 :]


def _at_another_rate(data: bytes) -> bytes:
    return bytes((byte * 7 + 131) % 256 | 0x80 for byte in data)


class InEnergyMode:
    """Says the mode before every m-ready, whole lines at a time."""

    def __init__(self) -> None:
        self.begun = b""

    def __call__(self, data: bytes) -> bytes:
        whole, end, self.begun = (self.begun + data).rpartition(b"\n")
        return (whole + end).replace(b"m-ready", b"m-timestamp-mode-energy\r\nm-ready")


BAD = {
    "a lost byte on the way there": (Cable(there=DropsOne()), Trouble.DROPPED_BYTES),
    "another baud rate": (Cable(back=_at_another_rate), Trouble.BAUD_MISMATCH),
    "an echo": (Cable(echoes=True), Trouble.ECHO),
    "firmware for energy mode": (Cable(back=InEnergyMode()), Trouble.WRONG_MODE),
    "nothing comes back": (Cable(back=lambda _data: b""), Trouble.SILENCE),
    "another program": (Cable(back=lambda data: b"login: " if data else b""), Trouble.NOT_A_DUT),
}


@pytest.mark.parametrize("name", list(BAD))
def test_what_is_wrong_with_the_way_to_a_board_is_named(board: int, tensor: bytes, name: str) -> None:
    cable, trouble = BAD[name]
    # Long enough for what comes, and not much longer, since of most of these cables nothing does.
    patience = replace(BOOTED, answer_s=1.0)
    with through(board, cable, patience) as session, pytest.raises(DutError) as caught:
        _greet_and_load(session, tensor)
    assert caught.value.diagnosis.trouble is trouble, str(caught.value)
    assert "Next: " in str(caught.value)


def _greet_and_load(session: Session, tensor: bytes) -> None:
    session.greet()
    session.load(tensor)


def test_a_port_that_is_not_there_is_named() -> None:
    with pytest.raises(DutError, match=r"socket://127\.0\.0\.1:1 cannot be opened"):
        SerialLine("socket://127.0.0.1:1")


def test_a_board_that_vanishes_is_named(board: int, tensor: bytes) -> None:
    pulled = threading.Event()

    def ends_when_pulled(data: bytes) -> bytes:
        if pulled.is_set():
            host.shutdown(socket.SHUT_RDWR)
        return data

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        line = SerialLine(f"socket://127.0.0.1:{server.getsockname()[1]}")
        host, _ = server.accept()
        with closing(line), closing(host), closing(_connected(board)) as device:
            for ends in ((device, host, ends_when_pulled), (host, device, bytes)):
                threading.Thread(target=_pump, args=ends, daemon=True).start()
            session = Session(line, BOOTED)
            session.greet()
            pulled.set()
            with pytest.raises(DutError, match=r"lost: .* went away.*Next: plug the board in again"):
                session.load(tensor)


def test_the_benchmark_runs_on_a_board_at_a_port_and_takes_no_emulators_time_for_measured(
    board: int, tmp_path: Path
) -> None:
    rows = probing_inputs(generate(MODEL).input_bytes, 3, seed=12)
    expected = tflm_outputs(MODEL, rows)
    for row, (tensor, output) in enumerate(zip(rows, expected, strict=True)):
        (tmp_path / f"{row}_{int(np.argmax(output))}.bin").write_bytes(tensor.tobytes())
    model = ROOT / "tests" / "data" / "models" / "cnn_1d.tflite"
    command = [
        *(sys.executable, "-m", "edgeloop", "bench", "mlperf-tiny", "--json", "--model", str(model)),
        *("--board", "cortex-m4", "--inputs", str(tmp_path), "--port", f"socket://127.0.0.1:{board}"),
        *("--window-s", "5", "--loading", "binary"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["inputs"], result["mismatches"], result["accuracy"]) == (3, 0, 1.0)
    assert result["board_class"] == "physical"
    # An emulator's second is none: five of them take a fraction of that.
    assert (result["latency_ms_class"], result["energy_uj_class"]) == ("modelled", "modelled")
    assert "the clocks disagree" in result["latency_ms_basis"]
    assert result["latency_ms"] > 0


def test_outputs_are_restored_from_three_decimals_where_the_scale_allows() -> None:
    output = read_graph(MODEL).output
    scale, zero_point = output.scales[0], output.zero_points[0]
    raw = np.linspace(-128, 127, output.size).astype(np.int8)
    results = tuple(round((int(value) - zero_point) * scale, 3) for value in raw)
    assert restored(results, output) == raw.tobytes()
    with pytest.raises(UsageError, match="cannot be restored"):
        restored(results, replace(output, scales=(0.0005,)))
    with pytest.raises(UsageError, match="results, the model"):
        restored(results[1:], output)
