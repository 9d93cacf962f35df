"""The device wire format, compiled from its one authored file."""

import importlib.resources
import importlib.util
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet

SOURCE: Final = "edgeloop/telemetry/v1/telemetry.proto"
TARGET_FOLDER: Final = "shared/telemetry"


class CompilerMissingError(RuntimeError):
    """`grpc_tools` is not installed."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """The generated Python by its path in the repository, and what the messages look like on the wire."""

    files: dict[str, str]
    wire: dict[str, Any]


def compile_telemetry(proto: Path) -> Compiled:
    """Compile `SOURCE` under the folder `proto`.

    Raises:
        CompilerMissingError: the development tools are not installed.
        ValueError: the file does not compile; protoc has said why on stderr.
    """
    if importlib.util.find_spec("grpc_tools") is None:
        raise CompilerMissingError("protoc is not installed; next: make setup")
    with tempfile.TemporaryDirectory() as folder:
        output, descriptors = Path(folder) / "python", Path(folder) / "descriptors"
        output.mkdir()
        # protoc brings the files of google/protobuf along; ours imports none today, and may tomorrow.
        bundled = importlib.resources.files("grpc_tools") / "_proto"
        # In a process of its own: beside another native protobuf, such as that of onnx, protoc crashes.
        command = [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            f"-I{proto}",
            f"-I{bundled}",
            f"--python_out={output}",
            f"--pyi_out={output}",
            f"--descriptor_set_out={descriptors}",
            SOURCE,
        ]
        if subprocess.run(command, check=False).returncode != 0:  # noqa: S603 - a development tool on our own file
            raise ValueError(f"proto/{SOURCE} does not compile; mend what protoc names above")
        files = {
            f"{TARGET_FOLDER}/{file.name}": file.read_text("utf-8")
            for file in sorted((output / SOURCE).parent.iterdir())
        }
        return Compiled(files, wire_of(FileDescriptorSet.FromString(descriptors.read_bytes())))


def wire_of(descriptors: FileDescriptorSet) -> dict[str, Any]:
    """Return every message's fields by number, each as it would be declared: what compatibility compares."""
    return {
        "messages": {
            message.name: {str(field.number): _declaration(field) for field in message.field}
            for file in descriptors.file
            for message in file.message_type
        }
    }


def _declaration(field: FieldDescriptorProto) -> str:
    label = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    kind = field.type_name.lstrip(".") or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return f"{label}{kind} {field.name}"
