"""Real files of bundles, damaged at random: what comes of them is a bundle that works, or an error with its place."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.policy.bundles import TIME, data_of, write
from usageaudit.errors import BundleError
from usageaudit.policy import InvalidBundle, bundle_from_archive, compile_judge, load_bundle
from usageaudit.policy.coverage import coverage
from usageaudit.policy.folders import shipped_packs
from usageaudit.policy.starting import start_bundle
from usageaudit.policy.testing import run_tests

if TYPE_CHECKING:
    from pathlib import Path

    from usageaudit.policy import Bundle

POLICIES = [
    file.read_bytes()
    for name in ("azure-openai-code-of-conduct", "hygiene")
    for file in sorted((shipped_packs()[name] / "policies").iterdir())
]
OTHERS = {
    "bundle.yaml": b"name: b\nuses: [hygiene]\n",
    "lists.yaml": b"mobile_cameras: [body_worn_camera]\nazure_openai: [azure.ai.openai]\nnumbers: [1, 2.5]\n",
    "registry.yaml": b"app: {owner: me, sector: health, approved_use_cases: [chat], data_classes: []}\n",
    "overrides.yaml": b"hygiene/use-case-missing: {stage: shadow, severity: low, alert: {for: 24h}}\n",
    "tests/cases.yaml": (
        b"- name: case\n  event: {actor: {type: user}}\n  expect: [{time: 2024-05-01, verdicts: {others: ok}}]\n"
    ),
}
SYNTAX = "{ } [ ] -_ :_ ' \" | > # &a_ *a !x_ % <<:_ ?_ --- ... ~ true NO 1e999 - 2024-05-01 && || ! ( ) ? == in has("
PIECES = [
    *(piece.replace("_", " ").encode() for piece in SYNTAX.split()),
    *(
        b"registry.sector",
        b".exists(x, x == 1)",
        b"matches('(')",
        b"\\u0000",
        b"{actor}",
        b"a" * 300,
        b"(" * 10,
        b"[" * 10,
    ),
    *(b"\n", b"  ", b"\t", b"\r", b"\x00", b"\xff", b"\xc3\xa9", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\\", b"9" * 30),
]


def _damaged(content: bytes, rnd: random.Random) -> bytes:
    """Return a file after one to four changes: bytes replaced, left out or repeated, and pieces of syntax put in."""
    for _ in range(rnd.randint(1, 4)):
        at = rnd.randrange(len(content) + 1)
        end = min(len(content), at + rnd.choice([0, 1, 1, 3, 20, 200]))
        lines = content.split(b"\n")
        content = rnd.choice(
            [
                content[:at] + rnd.choice(PIECES) + content[end:],
                content[:at] + rnd.choice(PIECES) + content[at:],
                content[:at] + content[end:],
                content[:end] + content[at:],
                content[:at] + bytes([rnd.randrange(256)]) + content[at + 1 :],
                b"\n".join(rnd.sample(lines, len(lines))) if rnd.random() < 0.1 else content[:at],
                content.replace(rnd.choice(lines) or b":", rnd.choice(PIECES)),
            ]
        )
    return content


def _loaded(folder: Path) -> Bundle | InvalidBundle:
    try:
        return load_bundle([folder])
    except InvalidBundle as refused:
        return refused


def _assert_whole(bundle: Bundle) -> None:
    """Hold a bundle that was loaded to be one: it judges, its tests run, and it can be kept."""
    judge = compile_judge(bundle)
    judge(data_of(purpose={"use_case": "chat"}), TIME)
    assert len(list(run_tests(bundle))) == sum(len(policy.tests) for policy in bundle.policies)
    assert len(list(coverage(bundle))) == len(bundle.policies)
    assert bundle_from_archive(bundle.archive()).hash == bundle.hash


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32).map(random.Random))
def test_damaged_file_is_refused_with_a_place_or_makes_a_bundle(tmp_path: Path, rnd: random.Random) -> None:
    """Nothing but a BundleError comes out of loading, with places in the files; what is loaded works as a whole."""
    folder = tmp_path / "b"
    shutil.rmtree(folder, ignore_errors=True)
    policy = rnd.choice(POLICIES).replace(b"hygiene/", b"b/").replace(b"azure-openai-code-of-conduct/", b"b/")
    files = {**OTHERS, "policies/a.yaml": policy}
    broken = rnd.choice([*files, *["policies/a.yaml"] * 6])
    files[broken] = _damaged(files[broken], rnd)
    write(folder, {**files})
    found = _loaded(folder)
    if isinstance(found, InvalidBundle):
        assert any(one.severity == "error" for one in found.diagnostics)
        assert all(one.line >= 1 and one.column >= 1 and one.width >= 1 for one in found.diagnostics)
        assert str(found).count("\n") >= 1
    else:
        _assert_whole(found)


def test_file_without_damage_makes_a_bundle(tmp_path: Path) -> None:
    """What a new bundle begins with holds up to the same: the damage is what is refused."""
    start_bundle(tmp_path)
    _assert_whole(load_bundle([tmp_path]))
    (tmp_path / "bundle.yaml").write_bytes(b"\x00")
    with pytest.raises(BundleError):
        load_bundle([tmp_path])
