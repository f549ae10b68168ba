"""docs/alert-targets.md says what the targets do."""

from tests.documents import ROOT
from tests.unit.alerts.targets.alerts import notification
from tests.unit.alerts.targets.test_rules import KEY, NOW
from usageaudit.alerts.targets import alertmanager, apprise, email, pagerduty, slack
from usageaudit.verdicts import SEVERITIES

PAGE = (ROOT / "docs" / "alert-targets.md").read_text(encoding="utf-8")


def test_the_page_has_the_limits_that_are_kept() -> None:
    """The lengths on the page are those that texts are cut to."""
    expected = (
        f"{pagerduty.MOST_SUMMARY:,} characters of summary, {pagerduty.MOST_KEY} of key",
        f"{slack.MOST_HEADER} characters of header, {slack.MOST_SECTION:,} of a section",
        f"{slack.MOST_FIELD:,} of a field",
        f"{email.MOST_SUBJECT} characters of subject",
        f"{apprise.MOST_TITLE} characters of title, {apprise.MOST_BODY:,} of message",
    )
    assert [one for one in expected if one not in PAGE] == []


def test_the_page_names_the_labels_and_the_severities() -> None:
    """Every label that Alertmanager gets is on the page, and what each severity is for PagerDuty."""
    labels = alertmanager.render(notification(), NOW)[0]["labels"]
    assert [one for one in labels if f"`{one}`" not in PAGE and not one.startswith("group_")] == []
    for severity in SEVERITIES:
        said = pagerduty.render(notification(severity=severity), KEY)["payload"]["severity"]
        (row,) = [line for line in PAGE.splitlines() if line.startswith("| `pagerduty` | `trigger`")]
        assert severity in row.partition(f"`{said}`")[0]
