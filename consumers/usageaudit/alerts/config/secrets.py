"""Secrets, which a configuration names and never holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from usageaudit.errors import ConfigurationError

MAX_BYTES = 64 * 1024
"""How large the file of a secret may be."""


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret is: in a variable of the environment, or in a file. The secret itself is never kept here."""

    place: Literal["env", "file"]
    name: str

    def __str__(self) -> str:
        return f"{{{self.place}: {self.name}}}"

    @property
    def shown(self) -> str:
        """What may be shown of it: its place."""
        return str(self)

    def reveal(self) -> str:
        """Return the secret, read anew, so that it can be changed; white space around it is left out.

        Raises ConfigurationError where it is not there, empty, no text of one line, or too large.
        """
        text = self._of_environment() if self.place == "env" else self._of_file()
        text = text.strip()
        if not text:
            raise ConfigurationError(f"the secret {self} is empty")
        if not text.isprintable():
            raise ConfigurationError(f"the secret {self} is not one line of text")
        return text

    def _of_environment(self) -> str:
        text = os.environ.get(self.name)
        if text is None:
            raise ConfigurationError(f"the secret {self} is not there; set the variable {self.name}")
        return text

    def _of_file(self) -> str:
        path = Path(self.name)
        try:
            if not path.is_file():  # a pipe would be waited for
                raise ConfigurationError(f"the secret {self} is not there; {self.name} is no file")
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise ConfigurationError(f"the secret {self} is larger than {MAX_BYTES // 1024} KiB")
            return data.decode()
        except UnicodeDecodeError:  # says nothing of where: what is there must not be shown
            raise ConfigurationError(f"the secret {self} is not UTF-8 text") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no path"
            raise ConfigurationError(f"the secret {self} can't be read: {reason}") from None


@dataclass(frozen=True, slots=True)
class Plain:
    """A URL that stands in the configuration itself, since it holds no secret."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def shown(self) -> str:
        """What may be shown of it: all."""
        return self.text

    def reveal(self) -> str:
        """Return the URL."""
        return self.text


Url = Plain | Secret
"""A URL, `reveal()` returns it; `shown` is what may be shown of it."""
