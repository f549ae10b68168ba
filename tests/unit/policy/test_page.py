"""docs/policies.md: its examples work as they stand, and it names everything that a policy file may have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.policy.bundles import write
from usageaudit.cli.run import run
from usageaudit.policy import compile_judge, load_bundle
from usageaudit.policy.fileschema import FILES
from usageaudit.policy.folders import LOCK, TOP_FILES, shipped_packs
from usageaudit.policy.shapes import MANIFEST, POLICY
from usageaudit.policy.testing import run_tests

PAGE = (Path(__file__).parents[3] / "docs" / "policies.md").read_text(encoding="utf-8")


def test_examples_of_the_page_are_a_bundle_that_passes(tmp_path: Path) -> None:
    """The policy, the whole events, the manifest and the overrides of the page make a bundle without a doubt."""
    policy, cases, manifest, overrides = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    folder = write(
        tmp_path / "acme",
        {
            "bundle.yaml": manifest,
            "overrides.yaml": overrides,
            "lists.yaml": "vendors: [azure.ai.openai]",
            "policies/a.yaml": policy,
            "tests/cases.yaml": cases,
        },
    )
    bundle = load_bundle([folder])
    assert bundle.warnings == ()
    outcomes = list(run_tests(bundle))
    assert [outcome for outcome in outcomes if not outcome.passed] == []
    assert sum(outcome.policy_id.startswith("acme/") for outcome in outcomes) == 4
    assert compile_judge(bundle).bundle is bundle


def test_coverage_of_the_page_is_what_its_policy_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part that the page shows as left open is what `--coverage` prints of the policy on the page."""
    (shown,) = re.findall(r"\n```\n(acme/.*?)```", PAGE, re.DOTALL)
    policy, *_ = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    lists = "vendors: [azure.ai.openai]\nmobile_cameras: [body_worn_camera]"
    file = "policies/no-live-face-recognition.yaml"
    write(tmp_path / "acme", {"bundle.yaml": "name: acme", "lists.yaml": lists, file: policy})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    run(["policy", "test", "acme", "--coverage"])
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize("name", [*POLICY, *MANIFEST, *TOP_FILES, LOCK, *FILES, *shipped_packs()])
def test_page_names_everything_there_is(name: str) -> None:
    """No key of a policy file, file of a bundle or shipped pack is missing on the page."""
    assert re.search(rf"\b{re.escape(name)}\b", PAGE)
