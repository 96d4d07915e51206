"""Numbers and layouts of AF_XDP sockets (linux/if_xdp.h, Documentation/networking/af_xdp.rst).

Only constants and numpy layouts.
"""

from __future__ import annotations

import mmap
from typing import Final

import numpy as np

AF_XDP: Final = 44
SOL_XDP: Final = 283

MMAP_OFFSETS: Final = 1
RX_RING: Final = 2
TX_RING: Final = 3
UMEM_REG: Final = 4
UMEM_FILL_RING: Final = 5
UMEM_COMPLETION_RING: Final = 6
STATISTICS: Final = 7
MAX_TX_SKB_BUDGET: Final = 9

PGOFF_RX: Final = 0
PGOFF_TX: Final = 0x80000000
PGOFF_FILL: Final = 0x100000000
PGOFF_COMPLETION: Final = 0x180000000

BIND_COPY: Final = 1 << 1
UMEM_UNALIGNED: Final = 1 << 0

# Room that the kernel leaves in front of a received frame (XDP_PACKET_HEADROOM).
HEADROOM: Final = 256
PAGE_BYTES: Final = mmap.PAGESIZE

DESC: Final = np.dtype([("addr", "<u8"), ("len", "<u4"), ("options", "<u4")])
_RING_OFFSET: Final = np.dtype(
    [("producer", "<u8"), ("consumer", "<u8"), ("desc", "<u8"), ("flags", "<u8")]
)
OFFSETS: Final = np.dtype(
    [
        ("rx", _RING_OFFSET),
        ("tx", _RING_OFFSET),
        ("fill", _RING_OFFSET),
        ("completion", _RING_OFFSET),
    ]
)
STATISTICS_FIELDS: Final = (
    "rx_dropped",
    "rx_invalid_descs",
    "tx_invalid_descs",
    "rx_ring_full",
    "rx_fill_ring_empty_descs",
    "tx_ring_empty_descs",
)
