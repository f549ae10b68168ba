"""The cases, read once in a run; a machine that can't have them skips the tests that need them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.cel import cases
from tests.conformance.cel.package import CEL_SPEC
from tests.conftest import skip
from tests.servers.packages import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.cel.cases import Case


@pytest.fixture(scope="session")
def cel_spec() -> Path:
    """Return the folder of the package, downloaded the first time; without it skip, or fail where `CI` is `true`."""
    try:
        return CEL_SPEC.install()
    except UnavailableError as error:
        skip(str(error))


@pytest.fixture(scope="session")
def conformance(cel_spec: Path) -> tuple[Case, ...]:
    """Return the conformance cases of cel-spec."""
    return cases.conformance(cel_spec)


@pytest.fixture(scope="session")
def parser_cases(cel_spec: Path) -> tuple[Case, ...]:
    """Return the cases of cel-go's parser."""
    return cases.parser_cases(cel_spec)
