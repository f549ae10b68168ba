"""URLs of stores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usageaudit.errors import ConfigurationError
from usageaudit.stores.address import ClickHouseAddress, ClusterAddress, EmbeddedAddress, parse_store_url

# Opens the store that the URL names, in an interpreter that refuses to import the package of its adapter.
OPEN_WITHOUT = """
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
from usageaudit.errors import ConfigurationError
from usageaudit.stores.address import open_store
try:
    open_store(sys.argv[2])
except ConfigurationError as error:
    print(error)
"""
IMPORTED = """
import sys
import usageaudit.stores.address, usageaudit.stores.ledger, usageaudit.stores.native
print(sorted({name.split(".")[0] for name in sys.modules} & {"chdb", "clickhouse_driver", "pandas", "pyarrow"}))
"""


def _python(*arguments: str) -> str:
    return subprocess.run([sys.executable, "-c", *arguments], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("url", "directory"),
    [
        ("embedded:./usageaudit-data", "usageaudit-data"),
        ("embedded:/var/lib/usageaudit", "/var/lib/usageaudit"),
        ("embedded:///var/lib/usageaudit", "/var/lib/usageaudit"),
        ("embedded:a b@c:d", "a b@c:d"),
    ],
)
def test_an_embedded_url_names_a_directory(url: str, directory: str) -> None:
    """What follows `embedded:` is a path, whatever characters it has."""
    assert parse_store_url(url) == EmbeddedAddress(Path(directory))


def test_a_clickhouse_url_has_defaults() -> None:
    """Host alone is enough: the port is that of the native protocol, with TLS or without."""
    plain = ClickHouseAddress("host", 9000, "default", "", "default", secure=False, options={})
    assert parse_store_url("clickhouse://host") == plain
    secure = ClickHouseAddress("host", 9440, "default", "", "default", secure=True, options={})
    assert parse_store_url("clickhouse://host?secure=1") == secure
    assert parse_store_url("clickhouses://host") == secure


@given(user=st.text(min_size=1), password=st.text(), database=st.text("abcäö_/?#@: ", min_size=1))
def test_every_part_of_a_url_may_be_percent_encoded(user: str, password: str, database: str) -> None:
    """User, password and database may hold any character, written as %XX."""
    parts = (quote(part.encode("utf-8", "surrogatepass"), safe="") for part in (user, password, database))
    url = "clickhouse://{}:{}@h:1/{}".format(*parts)
    address = parse_store_url(url)
    assert isinstance(address, ClickHouseAddress)
    expected = [part.encode("utf-8", "surrogatepass").decode("utf-8", "replace") for part in (user, password, database)]
    assert [address.user, address.password, address.database] == expected


@given(password=st.text("@/:#%?[]=&", max_size=4).map(lambda text: f"a{text}s3cret{text}"))
def test_a_password_is_never_shown(password: str) -> None:
    """Neither an address nor the error of a bad URL shows a password, even where it was not encoded."""
    url = f"clickhouse://user:{password}@host:9000/database?secure=maybe"
    with pytest.raises(ConfigurationError) as refused:
        parse_store_url(url)
    assert "s3cret" not in str(refused.value)
    address = parse_store_url(f"clickhouse://user:{quote(password, safe='')}@host:9000/database")
    assert "s3cret" not in f"{address!r} {address}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "embedded:./usageaudit-data"),
        ("embedded:", "embedded:./usageaudit-data"),
        ("./usageaudit-data", "embedded:./usageaudit-data"),
        ("postgres://host/database", "begins with postgres:"),
        ("clickhouse://", "names no host"),
        ("clickhouse://host:port/database", "%40"),
        ("clickhouse://host:99999/database", "can't be read"),
        ("clickhouse://[::1/database", "can't be read"),
        ("clickhouse://host/database?compression=lz4", "unknown options: compression"),
        ("clickhouse://host/database?secure=maybe", "secure=1"),
        ("clickhouse://host/database?verify=maybe", "verify=1"),
        ("clickhouse://host/database?timeout=soon", "timeout=15"),
        ("clickhouse://host/database?timeout=10", "timeout=15"),
        ("clickhouse://host/database#fragment", "#"),
    ],
)
def test_a_bad_url_is_refused_with_what_to_write(url: str, said: str) -> None:
    """A URL that names no store raises ConfigurationError, which says what is wrong or what to write."""
    with pytest.raises(ConfigurationError) as refused:
        parse_store_url(url)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("package", "url", "extra"),
    [("chdb", "embedded:./never-made", "embedded"), ("clickhouse_driver", "clickhouse://host", "consumer")],
)
def test_a_missing_package_is_named_with_its_extra(package: str, url: str, extra: str) -> None:
    """Where the package of an adapter is not installed, the error says what to install."""
    said = _python(OPEN_WITHOUT, package, url)
    assert package in said
    assert f"pip install 'usageaudit[{extra}]'" in said


def test_no_engine_is_imported_before_a_store_is_opened() -> None:
    """The modules of a service that opens no store import neither engine, nor what comes with them."""
    assert _python(IMPORTED) == "[]\n"


def test_a_url_of_a_cluster_lists_its_replicas() -> None:
    """Each host is a replica with its own port; login, database and options are those of all."""
    address = parse_store_url("clickhouse://user:p%40ss@a:9001,b,c:9003/audit?cluster=main&timeout=20")
    assert isinstance(address, ClusterAddress)
    assert address.name == "main"
    assert [(one.host, one.port) for one in address.replicas] == [("a", 9001), ("b", 9000), ("c", 9003)]
    assert {(one.user, one.password, one.database) for one in address.replicas} == {("user", "p@ss", "audit")}
    assert str(address) == "a:9001,b:9000,c:9003"
    assert "p@ss" not in repr(address)


def test_one_host_may_be_a_cluster() -> None:
    """With cluster= a single host is the only replica of a cluster."""
    address = parse_store_url("clickhouses://host?cluster=main")
    assert isinstance(address, ClusterAddress)
    assert [(one.port, one.secure) for one in address.replicas] == [(9440, True)]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("clickhouse://a,b/audit", "several hosts: add .cluster=NAME"),
        ("clickhouse://a,b/audit?cluster=", "cluster= needs the name"),
        ("clickhouse://a,,b/audit?cluster=main", "names no host"),
        ("clickhouse://a:x,b/audit?cluster=main", "can't be read"),
        ("clickhouse://user:pa,ss@a,b/audit", "several hosts"),
    ],
)
def test_a_url_of_a_cluster_that_is_wrong_is_refused(url: str, reason: str) -> None:
    """Hosts without a cluster, a cluster without a name, and hosts that are none are errors, without a password."""
    with pytest.raises(ConfigurationError, match=reason) as caught:
        parse_store_url(url)
    assert "pa,ss" not in str(caught.value)
