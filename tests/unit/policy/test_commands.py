"""`usageaudit policy`: what people type, what they see, and how it ends."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.strategies import MINIMAL, envelope
from tests.unit.policy.bundles import policy, write
from usageaudit.cli.run import run

if TYPE_CHECKING:
    from collections.abc import Callable

PACK = "azure-openai-code-of-conduct"


@pytest.fixture
def command(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs `usageaudit policy` in an empty folder: exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(["policy", *arguments])
        output, errors = capfd.readouterr()
        return code, output, errors

    return call


def test_started_bundle_passes_check_and_test(command: Callable[..., tuple[int, str, str]]) -> None:
    """What `init` writes is a bundle that `check` and `test` have nothing to say about."""
    code, output, _ = command("init", "Our Policies")
    assert code == 0
    assert all(Path(line).is_file() for line in output.splitlines())
    code, output, errors = command("check", "Our Policies")
    assert (code, errors) == (0, "")
    assert json.loads(output) | {"hash": ""} == {
        "bundle": "our-policies", "hash": "", "policies": 1, "tests": 4, "warnings": 0,
    }  # fmt: skip
    code, output, errors = command("test", "Our Policies")
    assert (code, errors) == (0, "")
    assert (json.loads(output)["passed"], json.loads(output)["failed"]) == (4, 0)


def test_init_overwrites_nothing(command: Callable[..., tuple[int, str, str]]) -> None:
    """A second `init` in the same folder, or one in a file's place, ends with code 2 and changes nothing."""
    command("init", "b")
    file = Path("b/bundle.yaml")
    file.write_text("name: changed")
    code, _, errors = command("init", "b")
    assert (code, file.read_text()) == (2, "name: changed")
    assert "is there already" in errors
    assert command("init", "b/bundle.yaml")[0] == 2


def test_check_shows_all_errors_and_ends_with_2(command: Callable[..., tuple[int, str, str]]) -> None:
    """Errors go to stderr with place, line and caret; nothing goes to stdout."""
    wrong = policy("actor.sectr == 'x'", pack="b", severity="hihg", applies="actor.sector != 'x'")
    write(Path("b"), {"bundle.yaml": "name: b", "policies/a.yaml": wrong})
    code, output, errors = command("check", "b")
    assert (code, output) == (2, "")
    assert "b/policies/a.yaml:3:11: severity is one of" in errors
    assert "^^^^^^^^^^^ did you mean actor.sector?" in errors
    assert "warning: " in errors
    assert errors.endswith("error: the policies have 2 errors\n")


def test_check_shows_warnings_and_ends_with_0(command: Callable[..., tuple[int, str, str]]) -> None:
    """What is doubtful is shown and does not fail."""
    write(Path("b"), {"bundle.yaml": "name: b", "policies/a.yaml": policy("actor.sector != 'x'", pack="b")})
    code, output, errors = command("check", "b")
    assert code == 0
    assert json.loads(output)["warnings"] == 2
    assert "warning: the policy has no test" in errors
    assert "b/policies/a.yaml:4:" in errors


def test_folder_of_a_bundle_is_the_default(command: Callable[..., tuple[int, str, str]]) -> None:
    """In the folder of a bundle no source need be named; elsewhere the policies in force are taken."""
    assert json.loads(command("check")[1])["bundle"] == PACK
    write(Path(), {"bundle.yaml": "name: here", "policies/a.yaml": policy(pack="here")})
    assert json.loads(command("check")[1])["bundle"] == "here"


def test_broken_bundle_ends_every_command_with_2(command: Callable[..., tuple[int, str, str]]) -> None:
    """A bundle with an error can't be tested, documented or explained by; all say so without a traceback."""
    write(Path("b"), {"bundle.yaml": "name: b", "policies/a.yaml": "["})
    for arguments in (("test", "b"), ("docs", "b"), ("explain", "-", "--policies", "b")):
        code, output, errors = command(*arguments)
        assert (code, output) == (2, "")
        assert errors.startswith("error: the policies have an error:\nb/policies/a.yaml:")


def test_failing_tests_are_named_and_end_with_1(command: Callable[..., tuple[int, str, str]]) -> None:
    """Each failing test is a line with file, line, policy and reason; the result counts them."""
    tests = [{"name": "wrong", "expect": "ok", "event": {"purpose": {"use_case": "x"}}}]
    files: dict[str, str | bytes] = {
        "bundle.yaml": "name: b",
        "policies/a.yaml": policy(pack="b", tests=tests),
        "policies/c.yaml": policy(pack="b", name="c"),
    }
    write(Path("b"), files)
    code, output, errors = command("test", "b")
    assert code == 1
    assert (json.loads(output)["tests"], json.loads(output)["failed"]) == (1, 1)
    assert "b/policies/a.yaml:5: b/a: wrong: expected ok, found violation" in errors
    assert "without a test: b/c" in errors


def _lines(*events: object) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


def test_explain_prints_one_object_for_each_event(command: Callable[..., tuple[int, str, str]]) -> None:
    """An explanation has exactly the documented keys; policies not in force have no version."""
    Path("events").write_text(_lines(envelope(MINIMAL, time="2024-04-01T00:00:00Z")))
    code, output, errors = command("explain", "events")
    assert (code, errors) == (0, "")
    explained = json.loads(output)
    assert list(explained) == ["event_source", "event_id", "policies", "windowed"]
    assert (explained["event_source"], explained["event_id"]) == ("//tests", "e-1")
    keys = ["policy_id", "policy_version", "verdict", "missing_fields", "deciding", "exception_id"]
    assert [list(one) for one in explained["policies"]] == [keys] * 6
    found = {one["policy_id"]: one for one in explained["policies"]}
    assert found[f"{PACK}/real-time-facial-recognition-on-mobile-cameras"] == {
        "policy_id": f"{PACK}/real-time-facial-recognition-on-mobile-cameras",
        "policy_version": None,
        "verdict": "not_applicable",
        "missing_fields": [],
        "deciding": [],
        "exception_id": None,
    }
    assert found[f"{PACK}/social-scoring"]["verdict"] == "indeterminate"
    assert found[f"{PACK}/social-scoring"]["missing_fields"] == ["purpose.use_case"]


@pytest.mark.parametrize("format", ["json", "csv", "table"])
def test_explain_in_other_forms(command: Callable[..., tuple[int, str, str]], format: str) -> None:  # noqa: A002
    """A table and CSV have a row for each event and policy, JSON is one array."""
    Path("events").write_text(_lines(envelope(MINIMAL), envelope(MINIMAL, id="e-2")))
    code, output, _ = command("explain", "events", "--format", format)
    assert code == 0
    if format == "json":
        assert [one["event_id"] for one in json.loads(output)] == ["e-1", "e-2"]
    else:
        assert output.count(f"{PACK}/social-scoring") == 2


def test_bad_lines_are_named_and_the_others_explained(command: Callable[..., tuple[int, str, str]]) -> None:
    """A bad line is named with its number, blank lines are passed over, and the exit code is 1."""
    lines = [json.dumps(envelope(MINIMAL)), "{", "", json.dumps(envelope({"operation": 1})), "x" * 1_000_001]
    Path("events").write_text("\n".join([*lines, json.dumps(envelope(MINIMAL, id="last"))]))
    code, output, errors = command("explain", "events")
    assert code == 1
    assert [json.loads(line)["event_id"] for line in output.splitlines()] == ["e-1", "last"]
    named = errors.splitlines()
    assert [line.partition(":")[0] for line in named] == ["line 2", "line 4", "line 5"]
    assert "data.operation" in named[1]


def test_explain_takes_other_policies(command: Callable[..., tuple[int, str, str]]) -> None:
    """`--policies` names the packs and folders to explain by, several times."""
    write(Path("b"), {"bundle.yaml": "name: b", "policies/a.yaml": policy(pack="b")})
    Path("events").write_text(_lines(envelope(MINIMAL)))
    _, output, _ = command("explain", "events", "--policies", "b", "--policies", "hygiene")
    found = {one["policy_id"]: one["verdict"] for one in json.loads(output)["policies"]}
    assert found["b/a"] == "ok"
    assert found["hygiene/use-case-missing"] == "violation"


@pytest.mark.parametrize(
    "arguments",
    [(), ("no-such-file",), ("events", "--event", "s", "i"), ("--event", "s", "i", "--policies", "hygiene")],
)
def test_wrong_use_of_explain_ends_with_2(
    command: Callable[..., tuple[int, str, str]], arguments: tuple[str, ...]
) -> None:
    """One source of events is needed, and it must be there."""
    code, output, errors = command("explain", *arguments)
    assert (code, output) == (2, "")
    assert errors.startswith("error: ")


def test_docs_is_a_page_of_the_bundle(command: Callable[..., tuple[int, str, str]]) -> None:
    """The page has every policy with title, basis, reading, conditions and lists."""
    code, output, errors = command("docs", PACK)
    assert (code, errors) == (0, "")
    assert output.startswith(f"# Policies: {PACK}\n")
    assert output.count("\n## azure-openai-code-of-conduct/") == 6
    assert "Version 2, from 2024-05-01T00:00:00Z: violated where" in output
    assert "- Basis: Azure OpenAI Service code of conduct; no social scoring; as of 2024-05-01" in output
    assert "- `lists.mobile_cameras`: `body_worn_camera`, `dash_camera`" in output


def test_docs_says_who_approved_what_is_over_and_what_the_lists_hold(
    command: Callable[..., tuple[int, str, str]],
) -> None:
    """A reader finds the stage, the entries of lists, approvals past and present, and exceptions past and present."""
    exceptions = [
        {"id": name, "when": "true", "approved_by": "me", "reason": "why", "expires": f"{year}-01-01"}
        for name, year in (("OLD", 2020), ("NEW", 2100))
    ]
    text = policy("actor.sector in lists.some", pack="b", exceptions=exceptions, stage="shadow")
    files: dict[str, str | bytes] = {
        "bundle.yaml": "name: b",
        "policies/a.yaml": text,
        "policies/c.yaml": policy(pack="b", name="c"),
        "lists.yaml": json.dumps({"some": [f"x{number}" for number in range(50)], "spare": ["y"]}),
    }
    write(Path("b"), files)
    assert command("docs", "b")[1].count("approved what it means") == 0
    command("approve", "b/a", "b", "--by", "C. Officer", "--reason", "Board,\n- 4 May")
    write(Path("b"), {"policies/a.yaml": text.replace("medium", "high")})
    command("approve", "b/a", "b", "--by", "D. Puty", "--reason", "severity")
    _, page, _ = command("docs", "b")
    assert "1 in shadow, 1 enforced." in page
    first, second = page.split("\n## ")[1:3]
    today = datetime.now(UTC).date().isoformat()
    assert f"- Approved as it is, version 1, by D. Puty on {today}: severity\n- Approved as it was before" in first
    assert f"by C. Officer on {today}: Board, - 4 May\n" in first
    assert "Exception OLD, until 2020-01-02T00:00:00Z, which is over, approved by me" in first
    assert "Exception NEW, until 2100-01-02T00:00:00Z, approved by me" in first
    assert "`x39` and 10 more, see below" in first
    assert "- Nobody approved what it means now." in second
    assert "`x49`\n- `lists.spare` (no condition names it): `y`" in page


def test_docs_can_not_be_made_to_say_something_else(command: Callable[..., tuple[int, str, str]]) -> None:
    """Texts of authors stay texts: neither HTML nor the end of a code block comes through."""
    text = policy("has(input) // ```", pack="b", title="a <script>|b", description="<img src=x>")
    exceptions = [{"id": "E", "when": "true", "approved_by": "<b>", "reason": "|", "expires": "2024-01-01"}]
    text += f"exceptions: {json.dumps(exceptions)}\n"
    write(Path("b"), {"bundle.yaml": "name: b", "policies/a.yaml": text, "registry.yaml": "a: {owner: <o>}"})
    _, output, _ = command("docs", "b")
    assert "<script" not in output
    assert "<img" not in output
    assert "<o>" not in output
    assert "````cel\nhas(input) // ```\n````" in output
    assert "until 2024-01-02T00:00:00Z, which is over, approved by &lt;b>" in output


def _half_tested(folder: Path) -> None:
    tests = [
        {"name": "x", "expect": "violation", "event": {"purpose": {"use_case": "x"}}},
        {"name": "none", "expect": "indeterminate", "event": {}},
    ]
    text = policy('purpose.use_case == "x"', pack="b", tests=tests)
    write(folder, {"bundle.yaml": "name: b", "policies/a.yaml": text})


def test_coverage_says_what_the_tests_leave_open(command: Callable[..., tuple[int, str, str]]) -> None:
    """A line for each policy has the figures, and each part that is not shown with its place and what it never is."""
    _half_tested(Path("b"))
    code, output, errors = command("test", "b", "--coverage")
    assert (code, errors) == (0, "")
    assert json.loads(output) == {
        "policy_id": "b/a", "tests": 2, "parts": 1, "decided": 0, "percent": 0.0, "can_be_unknown": 1, "left_open": 1,
        "undecided": [{
            "condition": "version 1", "file": "b/policies/a.yaml", "line": 4, "column": 37,
            "part": 'purpose.use_case == "x"', "never": ["false"],
        }],
    }  # fmt: skip
    code, output, _ = command("test", "b", "--coverage", "--format", "csv")
    assert output == "policy_id,tests,parts,decided,percent,can_be_unknown,left_open\nb/a,2,1,0,0.0,1,1\n"


def test_too_little_coverage_ends_with_1(command: Callable[..., tuple[int, str, str]]) -> None:
    """`--fail-under` compares the share of parts shown both ways, over all policies, and needs `--coverage`."""
    _half_tested(Path("b"))
    code, _, errors = command("test", "b", "--coverage", "--fail-under", "0.1")
    assert (code, errors) == (1, "the tests show 0.0 % of the parts true and false, less than 0.1 %\n")
    assert command("test", "b", "--coverage", "--fail-under", "0")[0] == 0
    assert command("test", PACK, "--coverage", "--fail-under", "90")[0] == 0
    assert command("test", PACK, "--fail-under", "90")[0] == 2
    assert command("test", PACK, "--coverage", "--fail-under", "101")[0] == 2


def test_coverage_on_a_terminal_shows_the_lines(
    command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person sees the line of the file with carets under the part, and the figures."""
    _half_tested(Path("b"))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    _, output, _ = command("test", "b", "--coverage")
    lines = output.splitlines()
    assert lines[0] == "b/policies/a.yaml:4:37: version 1: never false"
    assert lines[1][lines[2].index("^") :].startswith("purpose.use_case")
    assert lines[3:] == [
        "b/a: 0 of 1 parts shown true and false (0.0 %), 1 of 1 unknown in 2 tests",
        "all: 0.0 %",
    ]
