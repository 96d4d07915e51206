"""Which inner MAC address lives behind which node: an RSU's client cache.

Must not know frames or routes. Bounded, since anybody can send a frame with any inner source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MAX_CLIENTS: Final = 4096


class ClientCache:
    """inner source MAC → MAC of the node that it was seen behind.

    Clients behind other nodes and clients on the node's own TAP have `max_clients` places each,
    so that a flood of invented addresses cannot push out the node's own; in a full half the
    client learned longest ago makes room. `changed` is called whenever an answer may have become
    another one.
    """

    def __init__(
        self, own: bytes, changed: Callable[[], None], *, max_clients: int = MAX_CLIENTS
    ) -> None:
        if max_clients < 1:
            raise ValueError(f"max_clients must be at least 1, got {max_clients}")
        self._own = own
        self._changed = changed
        self._max_clients = max_clients
        self._near: dict[bytes, bytes] = {}
        self._far: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._near) + len(self._far)

    def items(self) -> tuple[tuple[bytes, bytes], ...]:
        """(client, node) in order of the client's MAC address."""
        return tuple(sorted((self._near | self._far).items()))

    def node_of(self, client: bytes) -> bytes | None:
        """The node behind which `client` was seen last."""
        return self._far.get(client) or self._near.get(client)

    def learn(self, client: bytes, node: bytes) -> None:
        """`client` was seen behind `node`; what was known of it before is replaced."""
        if self.node_of(client) == node:
            return
        self._far.pop(client, None)
        self._near.pop(client, None)
        half = self._near if node == self._own else self._far
        if len(half) >= self._max_clients:
            del half[next(iter(half))]
        half[client] = node
        self._changed()
