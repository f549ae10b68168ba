"""Bundles that are broken, or made to break who reads them: `usageaudit policy check` says so, at once, and no more."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.unit.policy.bundles import policy, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS = 120
"""Far more than is needed, for machines that are busy: what is not bounded takes minutes or days."""
MEGABYTES = 500
OPERANDS = "operands in its conditions"
GOOD = policy("has(input)", pack="b")
MANIFEST = "name: b\n"
Files = dict[str, "str | bytes"]


# What the command `usageaudit` runs. A child's ru_maxrss begins with that of the process that started it, so it says of
# itself what it took.
RUN = """
from usageaudit.cli import main
try:
    main()
finally:
    with open("/proc/self/status") as status, open("peak", "w") as peak:
        peak.write(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def _check(folder: Path) -> tuple[int, str, str, float]:
    """Run `usageaudit policy check b` in a folder: exit code, output, errors and peak memory in megabytes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("USAGEAUDIT_")}
    with (folder / "out").open("w+") as output, (folder / "err").open("w+") as errors:
        child = subprocess.Popen(
            [sys.executable, "-c", RUN, "policy", "check", "b"], cwd=folder, env=environment, stdout=output,
            stderr=errors, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        timer = threading.Timer(SECONDS, child.kill)
        timer.start()
        code = child.wait()
        timer.cancel()
        assert code != -signal.SIGKILL, "not ended in time"
        output.seek(0)
        errors.seek(0)
        return code, output.read(), errors.read(), int((folder / "peak").read_text()) / 1024


def _policy(when: str, name: str = "a", **more: object) -> str:
    return policy(when, name=name, pack="b", **more)


def _short(body: str) -> str:
    return f"id: b/a\ntitle: a\nseverity: low\n{body}"


def _lets(text: str, count: int) -> str:
    lines = "".join(f"  a{n}: {text.format(n - 1)}\n" for n in range(1, count))
    return _short(f"let:\n  a0: has(input)\n{lines}when: a{count - 1}\n")


def _cases() -> dict[str, tuple[str | bytes, str]]:
    """Return policy files by what is wrong with them, each with what must be said of it."""
    deep = 10_000
    laughs = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 12))
    conditions = {
        "parentheses": "(" * deep + "has(input)" + ")" * deep,
        "negations": "!" * deep + "has(input)",
        "minuses": "-" * deep + "1 == 1",
        "lists": "[" * deep + "]" * deep + " == 1",
        "ternaries": "(has(input) ? " * 2_500 + "true" + " : false)" * 2_500,
        "ternaries to the right": "has(input) ? true : " * 3_000 + "false",
        "macros": "tools.exists(t, " * 3_000 + "true" + ")" * 3_000,
        "fields": "a" + ".b" * deep + " == 1",
        "calls": "size(" * deep + "1" + ")" * deep,
        "indexes": "labels" + "['a']" * deep + " == 'x'",
        "sums": " + ".join(["1"] * deep) + " == 1",
    }
    nested: dict[str, tuple[str | bytes, str]] = {
        name: (_policy(text), "nested more than 64 levels deep") for name, text in conditions.items()
    }
    many = " || ".join(["has(purpose.use_case)"] * 2_500)
    return nested | {
        "no mapping": ("just text", "a policy is a mapping"),
        "list": ("- a\n- b\n", "a policy is a mapping"),
        "duplicate key": (f"{GOOD}title: again\n", "title is here twice"),
        "billion laughs": (f"l0: &l0 [lol]\n{laughs}", "anchors (&name) are not read"),
        "alias": ("a: *b\n", "aliases (*name) are not read"),
        "merge key": (f"<<: {{title: x}}\n{GOOD}", "unknown key << in a policy"),
        "object": ("a: !!python/object/apply:os.system ['touch pwned']\n", "tags"),
        "local tag": ("a: !x y\n", "tags"),
        "directives": ("".join(f"%TAG !a{n}! tag:x\n" for n in range(40_000)) + "--- \na: 1\n", "directives"),
        "one directive": ("%YAML 1.1\n---\na: 1\n", "directives"),
        "documents": ("a: 1\n---\n" * 10_000, "a second document in one file"),
        "unknown key": (f"{GOOD}sverity: low\n", "did you mean severity?"),
        "wrong types": (_short("when: [has(input)]\nevidence: x\nlet: 7\ntests: {}\n"), "evidence is a list"),
        "condition of 1 MiB": (_policy("a" * 1_000_000), "a condition has at most 65536 characters"),
        "many operands": (_policy(" || ".join(["1==1"] * 7_200)), "more than 20000 operands"),
        "strange characters": (_policy("\x01;" * 30_000), "unexpected character"),
        "flow sequences": ("a: " + "[" * deep, "nested more than 24 levels deep"),
        "flow mappings": ("{a: " * deep, "nested more than 24 levels deep"),
        "block sequences": ("- " * deep, "nested more than 24 levels deep"),
        "keys of keys": ("? " * deep, "nested more than 24 levels deep"),
        "repetition": (_policy("model.name.matches('(((a{1000}){1000}){1000})')"), "bad regular expression"),
        "large repetition": (_policy("model.name.matches('a{100000}')"), "bad regular expression"),
        "large class": (_policy(r"model.name.matches(r'(\pL{9}){9}')"), "bad regular expression: too large"),
        "look-behind": (_policy(r"model.name.matches(r'(?<=a)b')"), "bad regular expression"),
        "many large patterns": (
            _policy(" || ".join(rf"model.name.matches(r'\pL{{8}}a{n}')" for n in range(1_500))),
            "regular expressions of the condition are too large together",
        ),
        "revisions that overlap": (
            _policy("", revisions=[{"version": n, "when": "has(input)"} for n in range(1, 4)]),
            "the revision overlaps with version",
        ),
        "sub-conditions in a circle": (_short("let:\n  a: b\n  b: a\nwhen: a\n"), "b is not defined yet"),
        "sub-conditions that double": (_lets("a{0} && a{0}", 200), "more than 20000 operands"),
        "sub-conditions that grow": (_lets("'!a{0}'", 200), "more than 64 levels"),
        "large sub-condition, named often": (
            _short(
                f"let: {{big: '{many}'}}\nwhen: has(input)\nexceptions:\n"
                + "".join(
                    f"- {{id: E{n}, when: big, approved_by: a, reason: b, expires: 2030-01-01}}\n" for n in range(5_000)
                )
            ),
            OPERANDS,
        ),
        "not UTF-8": (GOOD.encode() + b"\xff", "is not UTF-8"),
        "UTF-16": (GOOD.encode("utf-16"), "is not UTF-8"),
        "NUL bytes": (b"\x00" * 1_000, "not YAML"),
        "NUL in a text": (f"{GOOD}description: a\x00b\n", "not YAML"),
        "control characters": (f"{GOOD}description: \x1b[2J\x07\n", "not YAML"),
        "errors without end": (_short("".join(f"key{n}: 1\n" for n in range(60_000))), "what follows was not read"),
        "one long line": ("{" + ", ".join(f"k{n}: 1" for n in range(60_000)) + "}", "what follows was not read"),
        "digits": (f"id: {'1' * 900_000}\n", "id is a text"),
        "sexagesimal": (f"id: {'1:' * 300_000}1\n", "id is a text"),
    }  # fmt: skip


CASES = _cases()
ENDLESS = {name for name, (_, message) in CASES.items() if message in ("what follows was not read", OPERANDS)}


def test_hostile_policy_files_are_refused_together(tmp_path: Path) -> None:
    """Files that are no policies end in errors with places and code 2, each with its own, in little memory and time."""
    files = {name: content for name, (content, _) in CASES.items() if name not in ENDLESS}
    names = {name: f"policies/{number}.yaml" for number, name in enumerate(files)}
    content = {names[name]: text for name, text in files.items()}
    write(tmp_path / "b", {"bundle.yaml": MANIFEST, "policies/good.yaml": GOOD, **content})
    errors = _assert_refused(tmp_path, "the policies have")
    for name, path in names.items():
        heads = re.findall(rf"^b/{re.escape(path)}:\d+:\d+: (.*)$", errors, re.MULTILINE)
        hints = errors.partition(f"b/{path}:")[2][:2_000]
        assert heads, name
        assert any(CASES[name][1] in text for text in (*heads, hints)), (name, heads)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "name", ["no mapping", "billion laughs", "parentheses", "repetition", "UTF-16", *sorted(ENDLESS)]
)
def test_hostile_policy_file_is_refused(tmp_path: Path, name: str) -> None:
    """One such file among good ones is enough: nothing of the bundle is loaded."""
    content, message = CASES[name]
    write(tmp_path / "b", {"bundle.yaml": MANIFEST, "policies/a.yaml": content, "policies/good.yaml": GOOD})
    _assert_refused(tmp_path, message)


def _assert_refused(folder: Path, message: str) -> str:
    code, output, errors, megabytes = _check(folder)
    assert (code, output) == (2, "")
    assert "Traceback" not in errors
    assert message in errors
    assert re.search(r"^\S+:\d+:\d+: ", errors, re.MULTILINE), "no place"
    assert re.fullmatch(r"error: the policies have .*", errors.splitlines()[-1])
    assert len(errors) < 1_000_000
    assert "\x1b" not in errors
    assert megabytes < MEGABYTES
    return errors


def _uses(count: int) -> Files:
    chain: Files = {f"c{n}/bundle.yaml": f"name: c{n}\nuses: [../c{n + 1}]\n" for n in range(count)}
    return {**chain, "bundle.yaml": "name: b\nuses: [c0]\n"}


EXCEPTION = "- {{id: E{0}, when: model.name in lists.a, approved_by: a, reason: b, expires: 2030-01-01}}\n"
FOLDERS: dict[str, tuple[Files, str]] = {
    "duplicate ids": ({"policies/a.yaml": GOOD, "policies/c.yaml": GOOD}, "policy b/a is here twice"),
    "a million entries": (
        {"policies/a.yaml": GOOD, "lists.yaml": "a: [" + "b," * 1_000_000 + "]"}, "the file has more than 1 MiB",
    ),
    "a million entries in two files": (
        {f"policies/{n}.yaml": "a: [" + "b," * 500_000 + "]" for n in range(2)}, "more than 800,000 values",
    ),
    "millions of entries in many files": (
        {f"policies/{n}.yaml": "a: [" + "b," * 300_000 + "]" for n in range(30)}, "more than 800,000 values",
    ),
    "policies that use one another": (
        {"policies/a.yaml": GOOD, "bundle.yaml": "name: b\nuses: [c]\n", "c/bundle.yaml": "name: c\nuses: [..]\n"},
        "uses this bundle in turn",
    ),
    "a chain of bundles": (_uses(500), "more than 100 bundles that use one another"),
    "uses of what is no name": (
        {"bundle.yaml": 'name: b\nuses: ["a\\0b", "' + "a" * 300 + '", "' + "a/" * 5_000 + '", /dev/null, "/", "~"]\n'},
        "no pack and no folder",
    ),
    "files that are folders": ({"policies/a.yaml/x": "", "lists.yaml/x": ""}, "is no regular file"),
    "a folder that is a file": ({"policies": GOOD}, "is no folder"),
    "manifest that is a folder": ({"bundle.yaml/x": "", "policies/a.yaml": GOOD}, "a folder without bundle.yaml"),
    "a long list, named often": (
        {
            "lists.yaml": "a: [" + ", ".join(f"w{n}" for n in range(110_000)) + "]",
            "policies/a.yaml": _short("when: has(input)\nexceptions:\n" + "".join(map(EXCEPTION.format, range(6_000)))),
        },
        "operands in its conditions",
    ),
    "tests without number": (
        {
            **{f"policies/{n}.yaml": _policy("has(input)", f"p{n}") for n in range(300)},
            "tests/t.yaml": "- {name: x, event: {}, expect: [{time: 2024-01-01, verdicts: {others: ok}}]}\n" * 9_000,
        },
        "more than 200,000 tests",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(FOLDERS))
def test_hostile_folder_is_refused(tmp_path: Path, name: str) -> None:
    """A folder of many, or of strange, files is refused as a whole, in bounded memory and time."""
    files, message = FOLDERS[name]
    write(tmp_path / "b", {"bundle.yaml": MANIFEST, **files} if "bundle.yaml/x" not in files else files)
    _assert_refused(tmp_path, message)


def _files(folder: Path, count: int) -> None:
    """Make many files of few, as a file can have only so many links."""
    many = folder / "policies" / "many"
    many.mkdir()
    for number in range(count):
        first = many / f"{number // 10_000 * 10_000}.yaml"
        if number % 10_000 == 0:
            first.write_text(GOOD)
        else:
            os.link(first, many / f"{number}.yaml")


def _hundred_thousand(folder: Path) -> None:
    _files(folder, 100_000)


def _six_thousand(folder: Path) -> None:
    _files(folder, 6_000)


def _hundred_megabytes(folder: Path) -> None:
    with (folder / "policies" / "large.yaml").open("wb") as stream:
        stream.truncate(100 << 20)


def _deep_folders(folder: Path) -> None:
    path = folder / "policies"
    for _ in range(40):
        path = path / "d"
        path.mkdir()


def _loops(folder: Path) -> None:
    (folder / "lists.yaml").symlink_to("lists.yaml")
    (folder / "policies" / "loop.yaml").symlink_to("loop.yaml")


def _loop_of_folders(folder: Path) -> None:
    (folder / "tests").symlink_to("tests")


def _whole_disk(folder: Path) -> None:
    (folder / "tests").symlink_to("/")


def _name_that_is_no_text(folder: Path) -> None:
    with open(os.fsencode(folder / "policies") + b"/\xff.yaml", "wb") as stream:  # noqa: PTH123  no Path has this name
        stream.write(GOOD.encode())


def _endless(folder: Path) -> None:
    (folder / "policies" / "endless.yaml").symlink_to("/dev/zero")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "registry.yaml")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_hundred_thousand, "more than 50,000 files and folders"),
        (_six_thousand, "more than 5,000 files"),
        (_hundred_megabytes, "the file has more than 1 MiB"),
        (_deep_folders, "nested more than 16 levels deep"),
        (_loops, "can't be read"),
        (_loop_of_folders, "is no folder"),
        (_whole_disk, "test"),
        (_name_that_is_no_text, "the name is not UTF-8"),
        (_endless, "is no regular file"),
        (_pipe, "is no regular file"),
    ],
)
def test_hostile_files_are_refused(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    """What a file system can hold besides small text files is refused without being read to its end."""
    make(write(tmp_path / "b", {"bundle.yaml": MANIFEST, "policies/good.yaml": GOOD}))
    _assert_refused(tmp_path, message)


def test_good_bundle_passes_the_same_check(tmp_path: Path) -> None:
    """The bundle around all the hostile files is fine by itself, so it is they that are refused."""
    write(tmp_path / "b", {"bundle.yaml": MANIFEST, "policies/good.yaml": GOOD})
    code, output, errors, megabytes = _check(tmp_path)
    assert (code, json.loads(output)["policies"]) == (0, 1)
    assert "warning: the policy has no test" in errors
    assert megabytes < MEGABYTES / 2
