from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as murmur2_of_kafka_python

from usageaudit.partitioning import murmur2, partition_of


@given(st.binary(max_size=200))
def test_the_hash_is_that_of_kafka(key: bytes) -> None:
    """Keys of every length have the hash that kafka-python, an independent port of the Java client's, gives them."""
    assert murmur2(key) == murmur2_of_kafka_python(key)


@given(st.binary(max_size=60), st.integers(1, 500))
def test_a_partition_exists(key: bytes, partitions: int) -> None:
    """The partition of a key is one of those that there are, and always the same."""
    assert 0 <= partition_of(key, partitions) < partitions
    assert partition_of(key, partitions) == partition_of(key, partitions)


def test_hashes_of_the_java_client() -> None:
    """The hashes of the Java client's own test (UtilsTest.testMurmur2), which are signed there, come out."""
    known = {"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "abc": 479470107}
    assert {text: murmur2(text.encode()) for text in known} == {text: n % 2**32 for text, n in known.items()}
