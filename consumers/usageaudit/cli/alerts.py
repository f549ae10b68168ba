"""`usageaudit alerts`: the dispatcher alone, a test delivery, and what was sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from usageaudit.cli.examples import examples
from usageaudit.cli.options import PoliciesOption, StoreOption  # noqa: TC001  Typer reads the annotations
from usageaudit.cli.output import FormatOption, print_rows, say
from usageaudit.cli.settings import settings_of
from usageaudit.cli.text import printable
from usageaudit.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from usageaudit.alerts.config.settings import AlertsConfig, TargetSettings
    from usageaudit.alerts.model import Notification
    from usageaudit.alerts.receiving import Arrival
    from usageaudit.cli.settings import Settings

SECRET_VARIABLE = "WEBHOOK_SECRET"  # noqa: S105  the name of one
alerts_app = typer.Typer(no_args_is_help=True)

# Placeholders are not called limit or offset: ClickHouse takes those for its settings of these names.
_LIST = """SELECT d.at AS at, d.state AS state, d.target AS target, d.occasion AS occasion, a.policy_id AS policy_id,
    a.severity AS severity, d.attempts AS attempts, d.status AS status, d.response AS response,
    nullIf(d.next_try, toDateTime64(0, 3, 'UTC')) AS next_try, d.alert_id AS alert_id, d.delivery_id AS delivery_id
FROM alert_deliveries AS d LEFT JOIN alerts AS a ON a.alert_id = d.alert_id
WHERE ({state:String} = '' OR d.state = {state:String}) AND ({alert:String} = '' OR d.alert_id = {alert:String})
ORDER BY at DESC, delivery_id LIMIT {rows:UInt32}"""


_DEAD = "SELECT delivery_id FROM alert_deliveries WHERE state = 'dead' ORDER BY at"


@alerts_app.callback()
def _alerts() -> None:
    """Tell people of violations and findings, and see what was sent."""


@alerts_app.command(epilog=examples("usageaudit alerts run", "USAGEAUDIT_ALERTS=alerts.yaml usageaudit alerts run"))
def run(context: typer.Context, store: StoreOption = None, policies: PoliciesOption = None) -> None:
    """Run the dispatcher alone: tell people of what is recorded from now on, and take acknowledgements.

    Of several dispatchers of a store one leads, and another takes over where it ends. `usageaudit up` has one in it.
    SIGTERM and Ctrl-C end it cleanly, SIGHUP reads alerts.yaml and the policies again.
    """
    from usageaudit.cli.dispatching import run_alone

    settings = settings_of(context, store=store, policies=policies)
    run_alone(settings, alerts_file(settings))


@alerts_app.command(
    epilog=examples("usageaudit alerts resend ae605f2d8bb360e4c14333ba52f2adbb", "usageaudit alerts resend --dead")
)
def resend(
    context: typer.Context,
    deliveries: Annotated[
        list[str] | None, typer.Argument(metavar="DELIVERY_ID…", help="Deliveries, as `alerts list` names them.")
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Every dead letter.")] = False,
    store: StoreOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Have deliveries tried again that were given up; the dispatcher takes them up within seconds."""
    from usageaudit.alerts.dispatcher import resend as again
    from usageaudit.cli.access import explaining_missing_tables, hold

    if dead == bool(deliveries):
        raise ConfigurationError("name the deliveries to send again, or all that are dead with --dead")
    opened = hold(settings_of(context, store=store).store)
    try:
        with explaining_missing_tables(opened):
            names = [str(one) for (one,) in opened.execute(_DEAD).rows] if dead else list(deliveries or ())
            for name in names:
                again(opened, name)
    finally:
        opened.close()
    print_rows(("delivery_id",), [(name,) for name in names], format)


@alerts_app.command("list", epilog=examples("usageaudit alerts list", "usageaudit alerts list --state dead"))
def list_(
    context: typer.Context,
    state: Annotated[str, typer.Option(help="Only those in this state, such as waiting, delivered or dead.")] = "",
    alert: Annotated[str, typer.Option(metavar="ID", help="Only those of this alert.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Rows at most, the latest first.")] = 50,
    store: StoreOption = None,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """List deliveries, the latest first, each with its state, attempts, answer and next try."""
    from usageaudit.cli.access import explaining_missing_tables, limits_of, reading

    settings = settings_of(context, store=store)
    values = {"state": state, "alert": alert, "rows": limit}
    with reading(settings) as opened, explaining_missing_tables(opened):
        found = opened.query(_LIST, values, limits_of(settings))
    print_rows(found.columns, found.rows, format)


@alerts_app.command(epilog=examples("usageaudit alerts check"))
def check(context: typer.Context, format: FormatOption = None) -> None:  # noqa: A002
    """Read alerts.yaml and say which targets and routes it has; nobody is told anything."""
    config = _configured(settings_of(context))
    rows = [("target", name, _kind(one), f"{one.seconds:g} s") for name, one in config.targets.items()]
    rows += [("route", one.name, ", ".join(one.to), _more(one.quiet, one.escalate)) for one in config.routes]
    if config.acknowledging is not None:
        rows.append(("acknowledge", config.acknowledging.url, config.acknowledging.listen, ""))
    print_rows(("part", "name", "is", "more"), rows, format)
    if not config.routes:
        say("there are no routes, so nobody is told of anything")


@alerts_app.command("test", epilog=examples("usageaudit alerts test on-call"))
def try_target(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="Name of a target in alerts.yaml.")],
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Send a test alert to a target, the way real ones are sent, and say what it answered.

    The exit code is 1 where it was not taken.
    """
    from usageaudit.alerts.targets.opening import open_target
    from usageaudit.alerts.targets.port import DeliveryFailed

    config = _configured(settings_of(context))
    found = config.targets.get(target)
    if found is None:
        raise ConfigurationError(f"there is no target {target}; there are {', '.join(config.targets) or 'none'}")
    opened = open_target(found, config.network)
    try:
        answer = opened.deliver(_trial(target))
    except DeliveryFailed as error:
        say(f"{target} did not take it: {printable(str(error))}")
        say(_advice(error, found))
        raise typer.Exit(1) from None
    finally:
        opened.close()
    print_rows(("target", "status", "said"), [(target, answer.status, answer.said)], format)


@alerts_app.command(epilog=examples("usageaudit alerts receive", "usageaudit alerts receive --listen 127.0.0.1:8099"))
def receive(
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to receive.")] = "127.0.0.1:8099",
    secret: Annotated[
        str | None,
        typer.Option(metavar="SECRET", envvar=SECRET_VARIABLE, help="What webhooks are signed with; a new one else."),
    ] = None,
    count: Annotated[int, typer.Option(min=0, help="End after so many alerts; 0 for at Ctrl-C.")] = 0,
    format: FormatOption = None,  # noqa: A002
) -> None:
    """Receive webhooks and print them: to try alerts out, nothing is kept.

    Signatures are verified, and repeats are dropped.
    """
    from queue import SimpleQueue

    from usageaudit.alerts.receiving import receiving
    from usageaudit.alerts.signing import new_secret
    from usageaudit.operating.address import parse_address

    where = parse_address(listen)
    if where is None:
        raise ConfigurationError("--listen names where to receive, such as 127.0.0.1:8099")
    used = secret or new_secret()
    arrivals: SimpleQueue[Arrival] = SimpleQueue()
    with receiving(*where, used, arrivals.put, lambda why: say(f"refused: {why}")) as port:
        say(f"receiving at http://{port.host}:{port.port}/ for trying out; Ctrl-C ends it")
        if secret is None:
            say(f"sign with: export {SECRET_VARIABLE}={used}")
        told = 0
        while not count or told < count:
            arrival = arrivals.get()
            if arrival.repeated:
                say(f"dropped a repeat: {printable(arrival.delivery_id)}")
                continue
            told += 1
            print_rows(("type", "severity", "policy_id", "message", "delivery_id"), [_row(arrival)], format)


def _row(arrival: Arrival) -> tuple[str, ...]:
    said = (str(arrival.data.get(name, "")) for name in ("severity", "policy_id", "message"))
    return (arrival.type, *said, arrival.delivery_id)


def alerts_file(settings: Settings) -> Path:
    """Return the path of alerts.yaml. Raises ConfigurationError where none is named."""
    if settings.alerts is None:
        raise ConfigurationError("no alerts.yaml is named: set USAGEAUDIT_ALERTS to its path")
    return settings.alerts


def _configured(settings: Settings) -> AlertsConfig:
    from usageaudit.alerts.config import read_alerts

    return read_alerts(alerts_file(settings))


def _kind(target: TargetSettings) -> str:
    return type(target).__name__.removesuffix("Settings").lower()


def _more(quiet: object, escalate: object) -> str:
    return ", ".join(name for name, there in (("quiet hours", quiet), ("escalates", escalate)) if there)


def _trial(target: str) -> Notification:
    """Return the notification of a test, unlike any other."""
    import uuid

    from usageaudit.alerts.model import Alert, Notification, delivery_id
    from usageaudit.events.times import format_time, to_micros

    alert = Alert(
        alert_id=uuid.uuid4().hex,
        status="firing",
        kind="test",
        policy_id="usageaudit/test",
        policy_version=1,
        severity="low",
        message="This is a test of alerts; nothing has happened.",
        violation_id=uuid.uuid4().hex,
        first_time=format_time(to_micros(datetime.now(UTC))),
    )
    return Notification(delivery_id(alert.alert_id, target, "test"), "test", alert)


def _advice(error: object, target: TargetSettings) -> str:
    status = getattr(error, "status", 0)
    if status in (401, 403):
        return "The target refuses us: check its secret, and that it is the one in use there."
    if status in (404, 410):
        return "There is nothing at that URL: check it in alerts.yaml."
    if 300 <= status < 400:
        return "The target sends elsewhere, and redirects are not followed: name the URL that it points to."
    if status == 429 or status >= 500:
        return "The target is there and can't take it now: try again, and look at its own log."
    if status:
        return f"The target understood something else: check that it is a {_kind(target)}."
    return (
        "It could not be reached: check its address and network; an address inside your own network has to be "
        "named in `network: {allow: [...]}` of alerts.yaml."
    )
