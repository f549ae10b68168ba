"""The suites of the ledger and of the store, as far as replicas go another way: run over three of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.test_ledger import (  # noqa: F401  the ledger's suite, with the store of this file
    ledger,
    partition,
    test_a_batch_of_an_earlier_epoch_is_refused,
    test_a_batch_says_where_it_comes_from,
    test_a_bundle_is_kept_once_and_given_back_as_it_was,
    test_accepted_events_are_found_wherever_they_are,
    test_an_epoch_that_was_never_taken_is_refused,
    test_an_offset_gap_is_one_finding,
    test_approvals_are_kept_once_with_their_bundle,
    test_each_takeover_raises_the_epoch_of_its_partition_alone,
    test_high_offsets_are_read_back,
    test_owners_that_take_over_at_once_get_different_epochs,
    test_rejected_bytes_are_kept_and_read_once,
    test_the_end_near_an_offset_is_found_by_the_index,
)
from tests.conformance.test_store import (  # noqa: F401  what of the store's suite goes another way through replicas
    table,
    test_a_closed_store_opens_again,
    test_a_missing_table_is_named,
    test_a_person_can_look_around,
    test_a_person_can_only_read,
    test_a_query_over_a_limit_is_stopped,
    test_a_table_to_look_up_is_gone_afterwards,
    test_an_insert_is_one_part,
    test_an_insert_is_refused_where_its_condition_holds,
    test_kill_ends_the_statements_of_a_prefix_and_no_others,
    test_kill_of_nothing_returns,
    test_names_and_values_may_hold_any_characters,
    test_stores_of_one_address_work_side_by_side,
    test_the_same_block_may_be_inserted_twice,
    test_what_a_persons_query_set_does_not_stay,
)
from usageaudit.stores.address import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.cluster import Cluster
    from usageaudit.stores.port import Store

pytestmark = pytest.mark.clickhouse


@pytest.fixture(scope="module")
def store(cluster: Cluster, replicated_database: str) -> Iterator[Store]:
    """Yield a store of three replicas with the ledger's tables, shared by the tests: use partitions of your own."""
    opened = open_store(cluster.url(replicated_database))
    yield opened
    opened.close()
