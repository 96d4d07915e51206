"""Netlink messages: built, taken apart, and asked one at a time.

Must not know what they are about. Source: netlink(7), linux/netlink.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x1
NLM_F_MULTI: Final = 0x2
NLM_F_ACK: Final = 0x4
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_DUMP: Final = 0x300
NLM_F_CREATE: Final = 0x400
NLA_F_NESTED: Final = 0x8000

HEADER_BYTES: Final = 16
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")


class Message(NamedTuple):
    """One message of an answer: its type, its flags, and what follows the header."""

    kind: int
    flags: int
    payload: bytes


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, filled up to its place's end."""
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each attribute."""
    while len(data) >= 4:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if size < 4:
            return
        yield kind, data[4:size]
        data = data[(size + 3) & ~3 :]


def message(kind: int, flags: int, body: bytes) -> bytes:
    """A request of this type."""
    return _HEADER.pack(HEADER_BYTES + len(body), kind, flags | NLM_F_REQUEST, 0, 0) + body


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram."""
    while len(data) >= HEADER_BYTES:
        size, kind, flags, _, _ = _HEADER.unpack_from(data)
        if size < HEADER_BYTES:
            return
        yield Message(kind, flags, data[HEADER_BYTES:size])
        data = data[(size + 3) & ~3 :]


def error_number(payload: bytes) -> int:
    """What a message of type NLMSG_ERROR reports: errno, 0 for an acknowledgement."""
    (code,) = struct.unpack_from("=i", payload)
    return -int(code)


def open_socket(family: int = socket.NETLINK_ROUTE) -> socket.socket:
    """A socket of a netlink family in the namespace of the calling thread."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)


def request(
    kind: int, flags: int, body: bytes, *, family: int = socket.NETLINK_ROUTE
) -> Iterator[bytes]:
    """Payloads of the answer to one request; OSError for an error answer."""
    with open_socket(family) as sock:
        sock.bind((0, 0))
        sock.send(message(kind, flags, body))
        while True:
            for answer in messages(sock.recv(1 << 16)):
                if answer.kind == NLMSG_DONE:
                    return
                if answer.kind == NLMSG_ERROR:
                    if number := error_number(answer.payload):
                        raise OSError(number, os.strerror(number))
                    return
                yield answer.payload
                if not answer.flags & NLM_F_MULTI:
                    return


def acknowledged(kind: int, flags: int, body: bytes) -> None:
    """Have the kernel do something; OSError with its number if it refuses."""
    for _ in request(kind, flags | NLM_F_ACK, body):
        pass
