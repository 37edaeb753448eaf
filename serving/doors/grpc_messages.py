"""The messages of open_inference.proto, made when they are needed.

No generated code: that would have to be made anew for each version of protobuf. The reader below knows the part of
the language that our file is written in. The messages live in a pool of their own, so that a process may also hold
those of a client.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SOURCE = Path(__file__).with_name("open_inference.proto")
SERVICE = "inference.GRPCInferenceService"
TOKEN = re.compile(r"[\w.]+|\"[^\"]*\"|[{}()<>=;,]")
Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "bool": Field.TYPE_BOOL, "string": Field.TYPE_STRING, "bytes": Field.TYPE_BYTES, "float": Field.TYPE_FLOAT,
    "double": Field.TYPE_DOUBLE, "int32": Field.TYPE_INT32, "int64": Field.TYPE_INT64, "uint32": Field.TYPE_UINT32,
    "uint64": Field.TYPE_UINT64,
}  # fmt: skip


@cache
def messages() -> dict[str, Any]:
    """Classes of the messages by their name, such as `ModelInferRequest`."""
    file = _Reader(SOURCE.read_text(encoding="utf-8")).file()
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        one.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{one.name}"))
        for one in file.message_type
    }


class _Reader:
    """One .proto file: messages, nested ones, scalars, maps and oneofs."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = TOKEN.findall(re.sub(r"//.*", "", text))[::-1]

    def file(self) -> Any:
        """The whole file. A service is passed over: its methods are named by who serves them."""
        file = descriptor_pb2.FileDescriptorProto(name=SOURCE.name, syntax="proto3")
        while self._tokens:
            word = self._next()
            if word == "package":
                file.package = self._next()
            elif word == "message":
                self._message(file.message_type.add())
            elif word == "service":
                self._skip_block()
        return file

    def _next(self) -> str:
        return self._tokens.pop()

    def _expect(self, wanted: str) -> None:
        found = self._next()
        if found != wanted:
            raise ValueError(f"{SOURCE.name}: {wanted!r} was expected, found {found!r}")

    def _skip_block(self) -> None:
        depth, begun = 0, False
        while not begun or depth:
            word = self._next()
            depth += (word == "{") - (word == "}")
            begun = begun or word == "{"

    def _message(self, message: Any) -> None:
        message.name = self._next()
        self._body(message)

    def _body(self, message: Any, choice: int | None = None) -> None:
        self._expect("{")
        while (word := self._next()) != "}":
            if word == "message":
                self._message(message.nested_type.add())
            elif word == "oneof":
                message.oneof_decl.add(name=self._next())
                self._body(message, len(message.oneof_decl) - 1)
            elif word == "map":
                self._map(message)
            else:
                self._field(message, word, choice)

    def _field(self, message: Any, word: str, choice: int | None) -> None:
        repeated = word == "repeated"
        field = message.field.add(label=Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL)
        _type(field, self._next() if repeated else word)
        self._name_and_number(field)
        if choice is not None:
            field.oneof_index = choice

    def _map(self, message: Any) -> None:
        """A map is a repeated message of key and value."""
        entry = message.nested_type.add()
        entry.options.map_entry = True
        key = entry.field.add(name="key", number=1, label=Field.LABEL_OPTIONAL)
        value = entry.field.add(name="value", number=2, label=Field.LABEL_OPTIONAL)
        self._expect("<")
        _type(key, self._next())
        self._expect(",")
        _type(value, self._next())
        self._expect(">")
        field = message.field.add(label=Field.LABEL_REPEATED)
        self._name_and_number(field)
        entry.name = "".join(part.capitalize() for part in field.name.split("_")) + "Entry"
        _type(field, entry.name)

    def _name_and_number(self, field: Any) -> None:
        field.name = self._next()
        self._expect("=")
        field.number = int(self._next())
        self._expect(";")


def _type(field: Any, kind: str) -> None:
    field.type = SCALARS.get(kind, Field.TYPE_MESSAGE)
    if kind not in SCALARS:
        field.type_name = kind  # found by the scope that it stands in
