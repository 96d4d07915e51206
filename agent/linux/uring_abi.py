"""Numbers and layouts of the io_uring system calls (linux/io_uring.h, io_uring(7)).

Only constants and numpy layouts; what they are for stands in the modules that use them.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

import numpy as np

# The same on every architecture but alpha (they came after the numbers were unified).
NR_SETUP: Final = 425
NR_ENTER: Final = 426
NR_REGISTER: Final = 427

OFF_SQ_RING: Final = 0
OFF_SQES: Final = 0x10000000


class Setup(IntFlag):
    """IORING_SETUP_*: how a ring is made."""

    CQSIZE = 1 << 3
    SUBMIT_ALL = 1 << 7
    COOP_TASKRUN = 1 << 8
    TASKRUN_FLAG = 1 << 9
    SINGLE_ISSUER = 1 << 12
    DEFER_TASKRUN = 1 << 13


class Feature(IntFlag):
    """IORING_FEAT_*: what the kernel says of the ring that it made."""

    SINGLE_MMAP = 1 << 0
    NODROP = 1 << 1
    SUBMIT_STABLE = 1 << 2
    CQE_SKIP = 1 << 11


class Op(IntEnum):
    """IORING_OP_*: operations used by engines."""

    READ = 22
    WRITE = 23
    SEND = 26
    RECV = 27


class Register(IntEnum):
    """IORING_REGISTER_*: operations of io_uring_register(2)."""

    PROBE = 8
    RING_FDS = 20
    UNREGISTER_RING_FDS = 21


# io_uring_enter flags.
ENTER_GETEVENTS: Final = 1 << 0
ENTER_REGISTERED_RING: Final = 1 << 4

# sqe.flags
SQE_CQE_SKIP_SUCCESS: Final = 1 << 6

# sqe.rw_flags of READ and WRITE: complete with -EAGAIN instead of waiting (preadv2(2)).
RWF_NOWAIT: Final = 0x8

SQE: Final = np.dtype(
    [
        ("opcode", "u1"),
        ("flags", "u1"),
        ("ioprio", "<u2"),
        ("fd", "<i4"),
        ("off", "<u8"),  # also addr2
        ("addr", "<u8"),
        ("len", "<u4"),
        ("rw_flags", "<u4"),  # also msg_flags, poll32_events, timeout_flags, cancel_flags
        ("user_data", "<u8"),
        ("buf_index", "<u2"),  # also buf_group
        ("personality", "<u2"),
        ("file_index", "<i4"),
        ("addr3", "<u8"),
        ("pad", "<u8"),
    ]
)
CQE: Final = np.dtype([("user_data", "<u8"), ("res", "<i4"), ("flags", "<u4")])

_SQ_OFFSETS: Final = np.dtype(
    [
        ("head", "<u4"),
        ("tail", "<u4"),
        ("ring_mask", "<u4"),
        ("ring_entries", "<u4"),
        ("flags", "<u4"),
        ("dropped", "<u4"),
        ("array", "<u4"),
        ("resv1", "<u4"),
        ("user_addr", "<u8"),
    ]
)
_CQ_OFFSETS: Final = np.dtype(
    [
        ("head", "<u4"),
        ("tail", "<u4"),
        ("ring_mask", "<u4"),
        ("ring_entries", "<u4"),
        ("overflow", "<u4"),
        ("cqes", "<u4"),
        ("flags", "<u4"),
        ("resv1", "<u4"),
        ("user_addr", "<u8"),
    ]
)
PARAMS: Final = np.dtype(
    [
        ("sq_entries", "<u4"),
        ("cq_entries", "<u4"),
        ("flags", "<u4"),
        ("sq_thread_cpu", "<u4"),
        ("sq_thread_idle", "<u4"),
        ("features", "<u4"),
        ("wq_fd", "<u4"),
        ("resv", "<u4", (3,)),
        ("sq_off", _SQ_OFFSETS),
        ("cq_off", _CQ_OFFSETS),
    ]
)
PROBE: Final = np.dtype(
    [
        ("last_op", "u1"),
        ("ops_len", "u1"),
        ("resv", "<u2"),
        ("resv2", "<u4", (3,)),
        (
            "ops",
            [("op", "u1"), ("resv", "u1"), ("flags", "<u2"), ("resv2", "<u4")],
            (256,),
        ),
    ]
)
OP_SUPPORTED: Final = 1 << 0
RSRC_UPDATE: Final = np.dtype([("offset", "<u4"), ("resv", "<u4"), ("data", "<u8")])
