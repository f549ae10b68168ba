"""Policies: bundles of them, judging an event by one, and why it came out so.

    folders, packs ─▶ load_bundle ─▶ Bundle ─▶ compile_judge ─▶ judge(data, time, record_time) ─▶ Verdicts

`language` is the language of conditions, `python` lowers them; `loading` reads a bundle and says everything that is
wrong with it; `judge` fuses a bundle into one function; `explain` evaluates policies one by one and says why. `shapes`
is what its files may say; `meaning` is what a policy means apart from its text, for `diff`, `locking` and `approvals`.
"""

from usageaudit.policy.archive import bundle_from_archive
from usageaudit.policy.explain import PolicyExplanation, explain_event
from usageaudit.policy.judge import Judge, compile_judge
from usageaudit.policy.loading import load_bundle
from usageaudit.policy.model import Approval, Bundle, Policy, PolicyException, PolicyTest, RegistryEntry, Revision
from usageaudit.policy.report import InvalidBundle
from usageaudit.policy.schema import SCHEMA

__all__ = [
    "SCHEMA",
    "Approval",
    "Bundle",
    "InvalidBundle",
    "Judge",
    "Policy",
    "PolicyException",
    "PolicyExplanation",
    "PolicyTest",
    "RegistryEntry",
    "Revision",
    "bundle_from_archive",
    "compile_judge",
    "explain_event",
    "load_bundle",
]
