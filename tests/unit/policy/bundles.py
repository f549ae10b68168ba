"""Bundles for tests: made of texts, without a folder where one is not the point."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.strategies import MINIMAL
from usageaudit.cloudevents import decode, encode_structured
from usageaudit.policy import bundle_from_archive

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from usageaudit.policy import Bundle

TIME = 1_715_000_000_000_000
"""2024-05-06T12:53:20Z."""


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files into a folder, which is made and returned."""
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def policy(when: str = "has(purpose.use_case)", *, name: str = "a", pack: str = "test", **more: Any) -> str:
    """Return a policy file; `more` are further keys, with JSON for their values, which is YAML as well."""
    fields: dict[str, Any] = {
        "id": f"{pack}/{name}",
        "title": name,
        "severity": "medium",
        "revisions": [{"version": 1, "when": when}],
        **more,
    }
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in fields.items())


def bundle_of(*policies: str, **files: str) -> Bundle:
    """Return a bundle called `test` of policy files; `files` are `lists`, `registry` and the like."""
    texts = {"bundle.yaml": "name: test"}
    texts |= {f"policies/{number:04}.yaml": text for number, text in enumerate(policies)}
    texts |= {f"{name}.yaml": text for name, text in files.items()}
    part = {"name": "test", "uses": [], "files": texts}
    return bundle_from_archive(json.dumps({"format": 1, "sources": ["test"], "parts": [part]}).encode())


def data_of(**fields: Any) -> Any:
    """Return the decoded data of an event, its required fields filled in."""
    merged = {**MINIMAL, **fields}
    for name in ("model", "actor", "application"):
        merged[name] = {**MINIMAL[name], **merged[name]}
    return decode(encode_structured(event_id="e", source="//s", time=TIME, data=json.dumps(merged).encode())).data
