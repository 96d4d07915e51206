"""Which points of the engines' contract one writev for a whole batch cannot keep."""

from __future__ import annotations

BROKEN_BY_WRITEV = frozenset(
    {
        "test_sent_frames_keep_order_and_content",
        "test_more_frames_than_one_batch_takes_go_in_one_call",
        "test_every_size_from_a_bare_header_to_the_mtu",
        "test_rows_go_out_from_where_they_were_received_with_a_header_pushed_in_front",
        "test_batches_of_one_length_and_of_several_follow_each_other",
        "test_chosen_rows_go_out_in_the_order_given",
        "test_a_frame_that_cannot_go_does_not_stop_the_others",
        "test_a_link_that_is_down_fails_its_next_hops_and_works_again_when_up",
        "test_it_counts_frames_bytes_fill_and_its_own_calls",
    }
)
"""Points of the contract that speak of several frames in one call: docs/engines.md lists them."""
