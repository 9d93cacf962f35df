from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TelemetryBatch(_message.Message):
    __slots__ = ("gateway", "project", "sequence", "sent_unix_ms", "reports")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SENT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    project: str
    sequence: int
    sent_unix_ms: int
    reports: _containers.RepeatedCompositeFieldContainer[DeviceReport]
    def __init__(self, gateway: _Optional[str] = ..., project: _Optional[str] = ..., sequence: _Optional[int] = ..., sent_unix_ms: _Optional[int] = ..., reports: _Optional[_Iterable[_Union[DeviceReport, _Mapping]]] = ...) -> None: ...

class DeviceReport(_message.Message):
    __slots__ = ("device", "board", "digest", "sequence", "inferences", "class_counts", "inputs", "confidence")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BOARD_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    INFERENCES_FIELD_NUMBER: _ClassVar[int]
    CLASS_COUNTS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    device: str
    board: str
    digest: str
    sequence: int
    inferences: int
    class_counts: _containers.RepeatedScalarFieldContainer[int]
    inputs: _containers.RepeatedCompositeFieldContainer[Histogram]
    confidence: Histogram
    def __init__(self, device: _Optional[str] = ..., board: _Optional[str] = ..., digest: _Optional[str] = ..., sequence: _Optional[int] = ..., inferences: _Optional[int] = ..., class_counts: _Optional[_Iterable[int]] = ..., inputs: _Optional[_Iterable[_Union[Histogram, _Mapping]]] = ..., confidence: _Optional[_Union[Histogram, _Mapping]] = ...) -> None: ...

class Histogram(_message.Message):
    __slots__ = ("counts",)
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, counts: _Optional[_Iterable[int]] = ...) -> None: ...
