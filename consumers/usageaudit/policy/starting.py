"""Writes the first files of a new bundle, which passes its checks and tests as it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usageaudit.errors import ConfigurationError
from usageaudit.policy.fileschema import FILES, schema_file, schema_text
from usageaudit.policy.folders import LISTS, MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

_SCHEMAS = ".schema"
"""The folder for JSON Schemas, beside the files that name them in their first line: editors need no network for it."""
_MANIFEST = """\
name: {name}
# Packs that are shipped with usageaudit, or folders, whose policies hold here too:
# uses: [azure-openai-code-of-conduct, hygiene]
"""
_LISTS = """\
# Conditions name these as lists.NAME. A list of the same name in a pack that is used is replaced.
photo_services: [photo-album, badge-printer]
"""
_POLICY = """\
id: {name}/no-facial-recognition
title: No facial recognition outside of the photo services
description: |
  What the rule says and why, and the reading taken where its source leaves something open.
basis:
  - {{document: Our rules for the use of AI, clause: "4.2", as_of: 2026-01-01}}
severity: high                # info, low, medium, high or critical
stage: shadow                 # draft, shadow (recorded, never alerted), enforce or retired
applies: '!(application.name in lists.photo_services)'   # where it is false, the policy has nothing to say
revisions:                    # give a later version a range, such as from: 2027-01-01T00:00:00Z
  - version: 1
    when: purpose.use_case == "facial_recognition"
message: "{{application.name}} of {{application.team}} used {{model.name}} for facial recognition"
evidence: [purpose.use_case, application.name, application.team, model.name]
tests:                        # required fields that are left out are filled in
  - name: declared
    expect: violation
    event: {{purpose: {{use_case: facial_recognition}}}}
  - name: another use
    expect: ok
    event: {{purpose: {{use_case: translation}}}}
  - name: the purpose is not declared
    expect: indeterminate
    missing: [purpose.use_case]
    event: {{application: {{name: help-desk}}}}
  - name: a photo service
    expect: not_applicable
    event: {{application: {{name: photo-album}}, purpose: {{use_case: facial_recognition}}}}
"""


def _line(kind: str, up: str = "") -> str:
    """Return the first line of a file, which leads an editor to the schema."""
    return f"# yaml-language-server: $schema={up}{_SCHEMAS}/{schema_file(kind)}\n"


def start_bundle(folder: Path) -> tuple[Path, ...]:
    """Write a bundle, named after its folder, and return its files.

    Raises ConfigurationError where the folder has one already or can't be written.
    """
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:100].strip("-") or "our-policies"
    texts = {
        MANIFEST: _line("bundle") + _MANIFEST.format(name=name),
        LISTS: _line("lists") + _LISTS,
        "policies/no-facial-recognition.yaml": _line("policy", "../") + _POLICY.format(name=name),
        **{f"{_SCHEMAS}/{schema_file(kind)}": schema_text(kind) for kind in FILES},
    }
    files = tuple(folder / path for path in texts)
    for file in files:
        if file.exists():
            raise ConfigurationError(f"{file} is there already: name a new folder")
    try:
        for file, text in zip(files, texts.values(), strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{folder} can't be written: {error.strerror or error}") from error
    return files
