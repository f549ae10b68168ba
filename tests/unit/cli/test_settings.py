"""Settings come from the command line, the environment, secret files and usageaudit.toml, in this order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usageaudit.cli.masking import MASK, masked
from usageaudit.cli.settings import Settings, load
from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("USAGEAUDIT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_both_ends_are_embedded_by_default() -> None:
    """Without any setting stream and store lie in one folder, and the shipped pack judges."""
    settings = load().settings
    assert settings.stream == settings.store == "embedded:./usageaudit-data"
    assert settings.policies == ("azure-openai-code-of-conduct",)


def test_each_place_overrides_those_after_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command line wins over the environment, that over secret files, and these over the file of settings."""
    (tmp_path / "secret").write_text("embedded:from-secret\n")
    (tmp_path / "usageaudit.toml").write_text(
        'store = "embedded:from-toml"\nstream = "embedded:from-toml"\nquery_rows = 5\nbatch_records = 7\n'
    )
    monkeypatch.setenv("USAGEAUDIT_STORE_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("USAGEAUDIT_QUERY_ROWS", "6")
    loaded = load(overrides={"batch_records": 8, "stream": None})
    settings, origins = loaded.settings, loaded.origins
    assert (settings.store, origins["store"]) == (
        "embedded:from-secret",
        f"USAGEAUDIT_STORE_FILE ({tmp_path / 'secret'})",
    )
    assert (settings.stream, origins["stream"]) == ("embedded:from-toml", "usageaudit.toml: stream")
    assert (settings.query_rows, origins["query_rows"]) == (6, "USAGEAUDIT_QUERY_ROWS")
    assert (settings.batch_records, origins["batch_records"]) == (8, "--batch-records")
    assert "log_level" not in origins


def test_environment_overrides_secret_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A variable wins over the file that holds the same setting."""
    (tmp_path / "secret").write_text("embedded:from-secret")
    monkeypatch.setenv("USAGEAUDIT_STORE_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("USAGEAUDIT_STORE", "embedded:from-environment")
    assert load().settings.store == "embedded:from-environment"


def test_all_errors_are_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unknown keys and bad values of all places are named in one error, with where they are."""
    (tmp_path / "usageaudit.toml").write_text('batch_record = 5\nlog_level = "loud"\n')
    monkeypatch.setenv("USAGEAUDIT_STROE", "embedded:x")
    monkeypatch.setenv("USAGEAUDIT_QUERY_ROWS", "many")
    monkeypatch.setenv("USAGEAUDIT_STREAM", "nats://host")
    monkeypatch.setenv("USAGEAUDIT_STORE_FILE", str(tmp_path / "absent"))
    with pytest.raises(ConfigurationError) as caught:
        load()
    text = str(caught.value)
    assert text.startswith("6 settings are wrong")
    assert "USAGEAUDIT_STROE: no such setting; did you mean USAGEAUDIT_STORE?" in text
    assert "usageaudit.toml: batch_record: no such setting; did you mean batch_records?" in text
    for place in ("USAGEAUDIT_QUERY_ROWS", "USAGEAUDIT_STREAM", "usageaudit.toml: log_level", "USAGEAUDIT_STORE_FILE"):
        assert place in text


def test_variables_of_the_tests_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that begin with USAGEAUDIT_TEST_ are left alone."""
    monkeypatch.setenv("USAGEAUDIT_TEST_DATA", "/somewhere")
    load()


@pytest.mark.parametrize("separator", [",", os.pathsep, ", "])
def test_policies_are_separated_by_commas_or_as_paths(separator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several policies fit into one variable."""
    monkeypatch.setenv("USAGEAUDIT_POLICIES", separator.join(["hygiene", "./ours"]))
    assert load().settings.policies == ("hygiene", "./ours")


def test_sizes_have_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes may be written as people write them."""
    monkeypatch.setenv("USAGEAUDIT_QUERY_MEMORY", "1.5GiB")
    assert load().settings.query_memory == 1.5 * 1024**3


def test_settings_file_that_was_named_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that was asked for is not skipped in silence, whoever asked."""
    with pytest.raises(ConfigurationError, match="no such settings file"):
        load(tmp_path / "absent.toml")
    monkeypatch.setenv("USAGEAUDIT_CONFIG", "absent.toml")
    with pytest.raises(ConfigurationError, match="no such settings file"):
        load()


@pytest.mark.parametrize("text", ["stream = ", "stream = \xff", "a = 1\na = 2"])
def test_unreadable_file_is_named(text: str, tmp_path: Path) -> None:
    """A file that is no TOML is an error with its name."""
    (tmp_path / "usageaudit.toml").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigurationError, match=r"usageaudit\.toml: can't be read"):
        load()


def test_every_setting_says_what_it_is() -> None:
    """No setting is without a description."""
    assert [name for name, info in Settings.model_fields.items() if not info.description] == []


passwords = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4).filter(lambda one: MASK not in one)


@given(passwords.map(lambda one: one.replace("@", "%40")))
def test_password_of_a_url_is_never_shown(password: str) -> None:
    """Whatever a password is made of, it does not appear in what is printed of the URL."""
    shown = masked(f"clickhouse://audit:{password}@host:9000/usageaudit")
    assert shown == f"clickhouse://audit:{MASK}@host:9000/usageaudit"


@given(passwords.filter(lambda one: not set("&;") & set(one)))
def test_secret_parameters_are_never_shown(password: str) -> None:
    """Parameters whose name says that they are secret are masked, the others shown."""
    shown = masked(f"kafka://host:9092?security=SASL_SSL&password={password}&topic=usage")
    assert shown == f"kafka://host:9092?security=SASL_SSL&password={MASK}&topic=usage"


def test_masking_leaves_other_settings_alone() -> None:
    """What holds no secret is shown as it is."""
    assert masked(("hygiene", "./ours")) == "hygiene,./ours"
    assert masked("embedded:./usageaudit-data") == "embedded:./usageaudit-data"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HTTP", "9464", "USAGEAUDIT_HTTP: should be HOST:PORT"),
        ("HTTP", "::1:9464", "USAGEAUDIT_HTTP: should be HOST:PORT"),
        ("HUNG_SECONDS", "0", "USAGEAUDIT_HUNG_SECONDS"),
        ("REJECTED_SHARE", "0", "USAGEAUDIT_REJECTED_SHARE"),
        ("REJECTED_SHARE", "1.5", "USAGEAUDIT_REJECTED_SHARE"),
        ("REJECTED_WINDOW", "0.5", "USAGEAUDIT_REJECTED_WINDOW"),
    ],
)
def test_what_operators_set_is_checked(name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong address or limit is refused before anything starts, and named."""
    monkeypatch.setenv(f"USAGEAUDIT_{name}", value)
    with pytest.raises(ConfigurationError, match=said):
        load()


def test_it_is_known_whether_the_port_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default address and the same one chosen differ: only the second has to be had."""
    assert "http" not in load().settings.model_fields_set
    monkeypatch.setenv("USAGEAUDIT_HTTP", "127.0.0.1:9464")
    assert "http" in load().settings.model_fields_set
