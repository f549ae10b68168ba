"""Alerts, dashboards and data sources, without Prometheus and Grafana: their files, conditions and names.

The conditions are parsed with a parser of PromQL; that Prometheus and Grafana take the files was not tried.
"""

from __future__ import annotations

import re
from typing import Any

import promql_parser
import pytest
import yaml

from tests.deploy.alerts import ALERTS, ASKED, RULES, selected
from tests.deploy.deployed import DEPLOY
from tests.deploy.panels import CLICKHOUSE, PROMETHEUS, dashboards
from tests.deploy.promql import LOOK_BACK, value_of
from tests.documents import ROOT, anchors
from usageaudit.operating.metrics import METRICS

EACH_RULE = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",), "info": ("",)}
OURS = {f"{metric.name}{suffix}": metric for metric in METRICS for suffix in SUFFIXES[metric.kind]}
DURATION = re.compile(r"\d+[smhd]")
EACH_EVENT = pytest.mark.parametrize(
    "rule", [rule for rule in RULES if rule["expr"].startswith("increase(")], ids=lambda rule: rule["alert"]
)
SCRAPE = 15
START = 100_000
DAY = 86_400


def test_the_parser_notices_mistakes() -> None:
    """What is no PromQL is refused by the parser that the other tests rely on."""
    for wrong in ("sum(", "rate(usageaudit_records_total)", "a >", "increase(x[5q])"):
        with pytest.raises(ValueError, match=r".+"):
            promql_parser.parse(wrong)


def test_the_file_of_alerts_has_the_form_that_prometheus_reads() -> None:
    """Groups and rules have the keys of https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules."""
    assert set(ALERTS) == {"groups"}
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))
    for group in ALERTS["groups"]:
        assert set(group) <= {"name", "interval", "rules"}
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert DURATION.fullmatch(rule.get("for", "0s"))


@EACH_RULE
def test_an_alert_asks_for_metrics_that_exist(rule: dict[str, Any]) -> None:
    """A condition is PromQL, and of our metrics it names ones that a service exposes, by their labels and values."""
    _check_names(rule["expr"])


@pytest.mark.parametrize("question", ASKED)
def test_a_panel_asks_for_metrics_that_exist(question: str) -> None:
    """The same of the dashboards."""
    _check_names(question)


def _check_names(expression: str) -> None:
    """Prometheus itself adds `job`, which another test holds against its configuration."""
    found = selected(expression)
    assert found
    for one in found:
        if one.name.startswith("usageaudit_"):
            labels = {**OURS[one.name].labels, "job": ()}
            for matcher in one.matchers.matchers:
                assert matcher.name in labels, f"{one.name} has no label {matcher.name}"
                assert not labels[matcher.name] or matcher.value in labels[matcher.name], matcher.value
        else:
            assert one.name == "up" or one.name.startswith("ClickHouse"), one.name


def test_labels_that_are_shown_are_there() -> None:
    """A sum by a label, or a legend that shows one, names a label that the metrics behind it have."""
    known = {label for metric in METRICS for label in metric.labels} | {"instance", "job", "le"}
    for expression in [rule["expr"] for rule in RULES] + ASKED:
        for names in re.findall(r"by \(([^)]*)\)", expression):
            assert {name.strip() for name in names.split(",")} <= known, expression
    for rule in RULES:
        shown = re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))
        assert set(shown) <= known


@EACH_RULE
def test_an_alert_leads_to_its_runbook(rule: dict[str, Any]) -> None:
    """Each alert names a part of the runbooks, which exists."""
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor in anchors(ROOT / page)
    assert {"summary", "description"} <= set(rule["annotations"])


def _series(**values: float) -> dict[int, float]:
    """Return a day of samples of a process that started then: `since_N` is the value from N seconds after it on."""
    steps = {int(name.removeprefix("since_")): value for name, value in values.items()}
    return {START + at: [steps[one] for one in sorted(steps) if one <= at][-1] for at in range(0, DAY, SCRAPE)}


def _fires(rule: dict[str, Any], samples: dict[int, float], after: int) -> bool:
    return value_of(rule["expr"], samples, START + after) is not None


@EACH_EVENT
def test_an_event_fires_whenever_it_was_counted(rule: dict[str, Any]) -> None:
    """What was counted before the first sample of a process fires like what came later, for a while and once."""
    assert not any(_fires(rule, _series(since_0=0), after) for after in (SCRAPE, 600, 7200))
    first, later = _series(since_0=1), _series(since_0=0, since_9000=1)
    assert _fires(rule, first, 0)
    assert _fires(rule, first, 600)
    assert not _fires(rule, first, 3600 + LOOK_BACK)
    assert not _fires(rule, later, 8985)
    assert _fires(rule, later, 9000)
    assert not _fires(rule, later, 9000 + 3600 + SCRAPE)


def test_an_increase_alone_misses_what_was_counted_first() -> None:
    """The control: without its second half such a condition says nothing of what a process counted as it started."""
    assert value_of("increase(x[1h]) > 0", _series(since_0=1), START + 600) is None
    assert value_of("increase(x[1h]) > 0", _series(since_0=0, since_300=1), START + 600) == 1


def test_prometheus_scrapes_what_runs() -> None:
    """The targets are services of the compose file and the ports on which they expose metrics."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    assert config["rule_files"] == ["/etc/prometheus/alerts.yml"]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    (found,) = jobs["usageaudit"]["dns_sd_configs"]
    assert (found["names"], found["port"]) == (["consumer"], 9464)
    (beside,) = jobs["usageaudit_scheduler"]["dns_sd_configs"]
    assert (beside["names"], beside["port"]) == (["scheduler"], 9464)
    (telling,) = jobs["usageaudit_alerts"]["dns_sd_configs"]
    assert (telling["names"], telling["port"]) == (["alerts"], 9464)
    assert "clickhouse:9363" in jobs["clickhouse"]["static_configs"][0]["targets"]
    assert {"consumer", "scheduler", "alerts", "clickhouse"} <= set(services)
    named = set(re.findall(r'job="(\w+)"', str(RULES) + str(ASKED)))
    assert named <= set(jobs)


def test_dashboards_name_data_sources_that_are_provisioned() -> None:
    """Each panel asks a data source that is set up, by its identity, and Grafana logs in as the reader of the views."""
    text = (DEPLOY / "grafana/provisioning/datasources/usageaudit.yaml").read_text(encoding="utf-8")
    sources = {one["uid"]: one for one in yaml.safe_load(text)["datasources"]}
    assert sources["usageaudit-store"]["jsonData"]["username"] == "usageaudit_read"
    for board in dashboards().values():
        for panel in board["panels"]:
            for asked in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
                assert sources[asked["uid"]]["type"] == asked["type"]
    assert {one["type"] for one in sources.values()} == {CLICKHOUSE, PROMETHEUS}


def test_dashboards_are_laid_out() -> None:
    """Dashboards and panels have identities of their own, and no two panels of one lie over each other or beside it."""
    boards = dashboards()
    assert len({board["uid"] for board in boards.values()}) == len(boards) == 3
    for board in boards.values():
        cells: set[tuple[int, int]] = set()
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        for panel in board["panels"]:
            at = panel["gridPos"]
            covered = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not covered & cells
            assert max(x for x, _ in covered) < 24
            cells |= covered


def test_the_dashboards_folder_is_where_grafana_looks() -> None:
    """The folder that the provider names is where the compose file mounts the dashboards."""
    text = (DEPLOY / "grafana/provisioning/dashboards/usageaudit.yaml").read_text(encoding="utf-8")
    (provider,) = yaml.safe_load(text)["providers"]
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]
