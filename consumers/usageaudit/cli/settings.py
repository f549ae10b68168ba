"""The settings: from the command line, the environment, secret files and usageaudit.toml, in this order.

Every setting is a field below. In the environment it is called USAGEAUDIT_ and the name of the field in capitals; the
same with _FILE names a file that holds the value, which is how secrets are mounted into containers. In
usageaudit.toml it is the name of the field. A key that is none of these is refused, and all errors are said at once.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, SettingsConfigDict, TomlConfigSettingsSource

from usageaudit.cli.masking import masked
from usageaudit.errors import ConfigurationError
from usageaudit.operating.address import DEFAULT_ADDRESS, parse_address
from usageaudit.stores.address import parse_store_url
from usageaudit.stream_url import parse_stream_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    import typer

PREFIX = "USAGEAUDIT_"
CONFIG_FILE = "usageaudit.toml"
CONFIG_VARIABLE = "USAGEAUDIT_CONFIG"
TEST_PREFIX = "USAGEAUDIT_TEST_"
DEFAULT_DATA = "embedded:./usageaudit-data"
MAX_SECRET_BYTES = 64 * 1024


def _split(value: object) -> object:
    """Take names apart at commas and, as in PATH, at the separator of paths."""
    if isinstance(value, str):
        return [part.strip() for part in re.split(f"[,{re.escape(os.pathsep)}]", value) if part.strip()]
    return value


def _stream_url(value: str) -> str:
    try:
        parse_stream_url(value)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    return value


def _store_url(value: str) -> str:
    try:
        parse_store_url(value)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    return value


def _http_address(value: str) -> str:
    try:
        parse_address(value)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    return value


StreamUrl = Annotated[str, AfterValidator(_stream_url)]
StoreUrl = Annotated[str, AfterValidator(_store_url)]
HttpAddress = Annotated[str, AfterValidator(_http_address)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)]


class Settings(BaseSettings):
    """What is in force. Sizes may be written with a unit, such as 64MiB; times are in seconds."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX)

    stream: StreamUrl = Field(
        DEFAULT_DATA,
        description="where events are published: embedded:FOLDER, or kafka://HOST:PORT[,HOST:PORT]; ?topic= and "
        "?group= name others than usage-events and usageaudit",
    )
    store: StoreUrl = Field(
        DEFAULT_DATA,
        description="where the record is kept: embedded:FOLDER, or clickhouse://USER:PASSWORD@HOST:PORT/DATABASE",
    )
    spool: str | None = Field(
        None,
        description="folder of the spools of publishers to Kafka on this machine, as they read it, too; by default "
        "usageaudit/spool in the folder for state of the user, and none where it is empty",
    )
    policies: Names = Field(
        ("azure-openai-code-of-conduct",),
        description="policies that judge: names of shipped packs or folders, separated by commas",
    )
    alerts: Path | None = Field(
        None,
        description="the alerts.yaml that says who is told of violations and findings; without it, nobody",
    )
    batch_records: int = Field(50_000, ge=1, le=1_000_000, description="most records in one batch")
    batch_bytes: ByteSize = Field(ByteSize(64 * 1024**2), ge=1, description="most bytes in one batch")
    batch_seconds: float = Field(0.2, gt=0, le=60, description="longest wait for a batch to fill up")
    rejected_share: float = Field(
        0.5, gt=0, le=1, description="share of the records of a window that may be refused without an alarm"
    )
    rejected_window: float = Field(300.0, ge=1, le=86_400, description="length of such a window")
    http: HttpAddress = Field(
        DEFAULT_ADDRESS,
        description="where services answer /livez, /readyz and /metrics: HOST:PORT, such as 0.0.0.0:9464 in a "
        "container, or off",
    )
    hung_seconds: float = Field(
        300.0, ge=1, description="how long the main loop may give no sign of life before /livez says that it hangs"
    )
    query_seconds: float = Field(60.0, gt=0, description="longest time that a query may take")
    query_memory: ByteSize = Field(ByteSize(2 * 1024**3), ge=1024**2, description="most memory that a query may use")
    query_rows: int = Field(1_000_000, ge=1, description="most rows that a query may return")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least grave log line written")
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="form of the services' logs; auto: text on a terminal, json otherwise"
    )


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force, and for each where it came from."""

    settings: Settings
    origins: Mapping[str, str]


@dataclass(slots=True)
class _Place:
    """One place that settings were read from: values by setting, how each is called there, and what is wrong there."""

    values: dict[str, Any]
    names: dict[str, str]
    problems: list[str] = field(default_factory=list)


def settings_of(context: typer.Context, **overrides: object) -> Settings:
    """Return the settings in force for a command; `overrides` are its options, None where one was not given.

    Raises ConfigurationError.
    """
    return load(getattr(context.obj, "config", None), overrides).settings


def load(config: Path | None = None, overrides: Mapping[str, object] | None = None) -> Loaded:
    """Read the settings of every place and check them.

    `overrides` come from the command line; None and empty lists were not given. Raises ConfigurationError, which names
    every wrong key and value at once.
    """
    given = {name: value for name, value in (overrides or {}).items() if value is not None and value != []}
    places = [
        _Place(given, {name: f"--{name.replace('_', '-')}" for name in given}),
        _environment(),
        _secret_files(),
        _file(config),
    ]
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for place in reversed(places):
        values |= place.values
        origins |= place.names
    problems = [problem for place in places for problem in place.problems]
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise _refusal(problems + _value_problems(error, values, origins)) from None
    if problems:
        raise _refusal(problems)
    return Loaded(settings, origins)


def _refusal(problems: list[str]) -> ConfigurationError:
    if len(problems) == 1:
        return ConfigurationError(problems[0])
    return ConfigurationError(f"{len(problems)} settings are wrong:\n" + "\n".join(f"  {one}" for one in problems))


def _value_problems(error: ValidationError, values: Mapping[str, Any], origins: Mapping[str, str]) -> list[str]:
    problems = []
    for one in error.errors(include_url=False):
        name = str(one["loc"][0])
        message = one["msg"].removeprefix("Value error, ").removeprefix("Input ")
        problems.append(f"{origins[name]}: {message}, and is {masked(values[name])!r}")
    return problems


def _environment() -> _Place:
    fields = Settings.model_fields
    values = EnvSettingsSource(Settings)()
    names = {name: f"{PREFIX}{name.upper()}" for name in fields}
    known = {CONFIG_VARIABLE, *names.values(), *(f"{name}_FILE" for name in names.values())}
    unknown = [
        _unknown(name, known)
        for name in sorted(map(str.upper, os.environ))
        if name.startswith(PREFIX) and not name.startswith(TEST_PREFIX) and name not in known
    ]
    return _Place({name: values[name] for name in values if name in fields}, {n: names[n] for n in values}, unknown)


def _unknown(name: str, known: set[str] | frozenset[str], place: str = "") -> str:
    close = difflib.get_close_matches(name, known, n=1)
    advice = f"did you mean {close[0]}?" if close else "`usageaudit config show` lists the settings"
    return f"{place}{name}: no such setting; {advice}"


def _secret_files() -> _Place:
    """Read the settings whose values lie in files that variables such as USAGEAUDIT_STORE_FILE name."""
    place = _Place({}, {})
    for name in Settings.model_fields:
        variable = f"{PREFIX}{name.upper()}_FILE"
        path = os.environ.get(variable)
        if not path:
            continue
        try:
            with Path(path).open(encoding="utf-8") as file:
                place.values[name] = file.read(MAX_SECRET_BYTES).strip()
            place.names[name] = f"{variable} ({path})"
        except (OSError, UnicodeDecodeError) as error:
            place.problems.append(f"{variable}: {path} can't be read: {_reason(error)}")
    return place


def _file(config: Path | None) -> _Place:
    """Read usageaudit.toml, or the file that was named instead of it."""
    named = config or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    path = named or Path(CONFIG_FILE)
    if not path.is_file():
        return _Place({}, {}, [] if named is None else [f"{path}: no such settings file"])
    try:
        values = TomlConfigSettingsSource(Settings, path)()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return _Place({}, {}, [f"{path}: can't be read: {_reason(error)}"])
    known = frozenset(Settings.model_fields)
    unknown = [_unknown(name, known, f"{path}: ") for name in values if name not in known]
    kept = {name: value for name, value in values.items() if name in known}
    return _Place(kept, {name: f"{path}: {name}" for name in kept}, unknown)


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
