# mypy: disable-error-code="type-arg"
from google.longrunning import operations_pb2 as _operations_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IndexDirectoryRequest(_message.Message):
    __slots__ = ("path", "parent", "request_id", "pace")
    PATH_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    path: str
    parent: str
    request_id: str
    pace: _duration_pb2.Duration
    def __init__(self, path: _Optional[str] = ..., parent: _Optional[str] = ..., request_id: _Optional[str] = ..., pace: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class IndexMetadata(_message.Message):
    __slots__ = ("path", "parts")
    PATH_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    path: str
    parts: int
    def __init__(self, path: _Optional[str] = ..., parts: _Optional[int] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("path", "files", "bytes", "lines", "skipped", "digest", "parts", "claim")
    PATH_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    path: str
    files: int
    bytes: int
    lines: int
    skipped: int
    digest: str
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    claim: int
    def __init__(self, path: _Optional[str] = ..., files: _Optional[int] = ..., bytes: _Optional[int] = ..., lines: _Optional[int] = ..., skipped: _Optional[int] = ..., digest: _Optional[str] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ..., claim: _Optional[int] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("directory", "files", "bytes", "lines", "skipped", "digest", "attempt", "claim")
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    directory: str
    files: int
    bytes: int
    lines: int
    skipped: int
    digest: str
    attempt: int
    claim: int
    def __init__(self, directory: _Optional[str] = ..., files: _Optional[int] = ..., bytes: _Optional[int] = ..., lines: _Optional[int] = ..., skipped: _Optional[int] = ..., digest: _Optional[str] = ..., attempt: _Optional[int] = ..., claim: _Optional[int] = ...) -> None: ...

class IndexState(_message.Message):
    __slots__ = ("path", "pace", "children")
    PATH_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    path: str
    pace: float
    children: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, path: _Optional[str] = ..., pace: _Optional[float] = ..., children: _Optional[_Iterable[str]] = ...) -> None: ...

class PartState(_message.Message):
    __slots__ = ("path", "directory", "pace")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    path: str
    directory: bytes
    pace: float
    def __init__(self, path: _Optional[str] = ..., directory: _Optional[bytes] = ..., pace: _Optional[float] = ...) -> None: ...
