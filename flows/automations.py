"""`python -m flows.automations FILE`: what happens by itself, as a file: which event is told to whom, and which deployment it starts.

Applied to the server of PREFECT_API_URL. Applied again, it is brought up to date; automations of ours that are in the file no more go away.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import UUID

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, CallWebhook, ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from anomaly.errors import SpecError
from anomaly.names import slug
from anomaly.toml_file import explain, read_toml
from flows.shared import errors_told

TAG = "anomaly"
LINE = "anomaly.line."
HEARTBEAT = "prefect.flow-run.heartbeat"
ENDS = tuple(
    f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Crashed", "TimedOut", "Cancelled", "Suspended", "AwaitingRetry")
)


class Kind(NamedTuple):
    """What an automation begins with: the events and whether they belong to a line, or so many minutes without one of them."""

    events: tuple[str, ...]
    says: str  # Jinja, for people
    of_line: bool = True
    absent: int = 0


_SAYS = "{{ event.resource.name }}: {{ event.payload['says'] }}"
KINDS = {
    "flow failed": Kind(
        ("prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"),
        "{{ event.resource.name }} failed: {{ event.resource['prefect.state-message'] }}",
        of_line=False,
    ),
    # A run's own process tells how it ended; a machine that lost its power tells nothing. Three heartbeats are 9 minutes.
    "run lost": Kind((HEARTBEAT, *ENDS), "It was not heard of any more, and is given up.", of_line=False, absent=10),
    "watch stopped": Kind(("prefect.flow-run.Completed",), "No watch has ended for a while.", of_line=False, absent=30),
    "silent": Kind(("anomaly.watch.silent",), _SAYS),
    "data": Kind(("anomaly.watch.data",), _SAYS),
    "budget": Kind(("anomaly.watch.budget",), _SAYS),
    "drift": Kind(("anomaly.watch.drift",), _SAYS),
    "challenger": Kind(("anomaly.release.challenger",), _SAYS),
    "challenger better": Kind(("anomaly.release.challenger.better",), _SAYS),
    "rolled back": Kind(("anomaly.bundle.rolled_back",), "{{ event.resource.name }} went back by itself: {{ event.payload['reason'] }}"),
}
On = Literal[
    "flow failed", "run lost", "watch stopped", "silent", "data", "budget", "drift", "challenger", "challenger better", "rolled back",
]  # fmt: skip


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sink(_Part):
    """Who is told. `url_env`: environment variable with the address of a webhook; `block`: TYPE/NAME of a notification block."""

    name: str = Field(min_length=1)
    url_env: str | None = None
    block: str | None = Field(None, pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")

    @model_validator(mode="after")
    def _is_one(self) -> Sink:
        if (self.url_env is None) == (self.block is None):
            raise ValueError(f"sink {self.name!r}: give url_env or block, one of them")
        return self


class Rule(_Part):
    """`on`: what begins it. `line`: of this line alone, as its monitor calls it. `notify`: a sink. `run`: FLOW/DEPLOYMENT.

    `minutes`: after how long without a sign it begins, for "run lost" (10 if not given) and "watch stopped" (30).
    """

    on: On
    minutes: float | None = Field(None, ge=0.5, le=7 * 24 * 60)
    line: str | None = None
    notify: str | None = None
    run: str | None = Field(None, pattern=r"^[^/]+/[^/]+$")

    @model_validator(mode="after")
    def _does_something(self) -> Rule:
        if self.notify is None and self.run is None and self.on != "run lost":
            raise ValueError(f"on {self.on!r} nothing would happen; give notify, run, or both")
        if self.line is not None and not KINDS[self.on].of_line:
            raise ValueError(f"{self.on!r} belongs to no line; leave out line")
        if self.minutes is not None and not KINDS[self.on].absent:
            raise ValueError(f"{self.on!r} begins at once; leave out minutes")
        return self

    @property
    def name(self) -> str:
        """As it is called on the server."""
        then = " and ".join(part for part in (f"tell {self.notify}" if self.notify else "", f"run {self.run}" if self.run else "") if part)
        then = then or "give it up"
        return f"anomaly: {self.on}{f' of {self.line}' if self.line else ''}: {then}"


class Automations(_Part):
    """The whole file."""

    sink: tuple[Sink, ...] = ()
    automation: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Automations:
        sinks = {sink.name for sink in self.sink}
        for rule in self.automation:
            if rule.notify is not None and rule.notify not in sinks:
                raise ValueError(f"notify = {rule.notify!r} is no sink of this file; it has {', '.join(sorted(sinks)) or 'none'}")
        names = [rule.name for rule in self.automation]
        if len(names) > len(set(names)):
            raise ValueError("two automations are the same; leave one of them out")
        return self


def read_automations(path: Path) -> Automations:
    """Read and check a file. Raises SpecError, which names the key."""
    try:
        return Automations.model_validate(read_toml(path, "deploy/automations.toml"))
    except ValidationError as error:
        raise SpecError(*(f"{path}: {explain(Automations, item)}" for item in error.errors())) from error


def apply(asked: Automations, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Bring the server to what the file says. Returns a line for each automation: what was done with it.

    Raises SpecError for a deployment or a block that is not there, or an address that is not set, before anything is changed.
    """
    with get_client(sync_client=True) as client:
        wanted = {rule.name: _automation(client, rule, asked, environment) for rule in asked.automation}
        there = [one for one in client.read_automations() if TAG in one.tags]
        said = []
        for name, one in wanted.items():
            known = next((old for old in there if old.name == name), None)
            if known is None:
                client.create_automation(one)
            else:
                client.update_automation(known.id, one)
            said.append(f"{'made' if known is None else 'kept'}: {name}")
        for old in there:
            if old.name not in wanted:
                client.delete_automation(old.id)
                said.append(f"taken away: {old.name}")
        return said


def _automation(client: SyncPrefectClient, rule: Rule, asked: Automations, environment: Mapping[str, str]) -> AutomationCore:
    actions: list[ActionTypes] = []
    if rule.on == "run lost":  # else it would be running for ever in the eyes of the server
        actions.append(ChangeFlowRunState(state=StateType.CRASHED, message="It was not heard of any more: its process or machine is gone."))
    if rule.run is not None:
        actions.append(RunDeployment(deployment_id=_deployment(client, rule.run), parameters=_parameters(rule)))
    sink = next((sink for sink in asked.sink if sink.name == rule.notify), None)
    if sink is not None:
        actions.append(_told(client, sink, rule, environment))
    return AutomationCore(
        name=rule.name, description="By flows.automations; change its file, not this.", tags=[TAG], trigger=_trigger(rule), actions=actions
    )


def _trigger(rule: Rule) -> EventTrigger:
    kind = KINDS[rule.on]
    within = timedelta(minutes=rule.minutes or kind.absent)
    if rule.on == "run lost":
        return EventTrigger(
            after={HEARTBEAT},
            expect=set(kind.events),
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        )
    if kind.absent:
        return EventTrigger(
            expect=set(kind.events),
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": "watch"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        )
    match = {"prefect.resource.id": f"{LINE}{rule.line or '*'}"} if kind.of_line else {}
    if rule.on == "silent" and rule.line is None:
        match = {"prefect.resource.id": "anomaly.*"}  # a box that was never heard of has no line
    return EventTrigger(expect=set(kind.events), match=match, posture=Posture.Reactive, threshold=1)


def _parameters(rule: Rule) -> dict[str, Any] | None:
    """What a run is told of its event, beside what its deployment says."""
    if rule.on != "rolled back":
        return None
    told = {"of": "{{ event.payload['bundle_hash'] }}", "why": "{{ event.payload['reason'] }}", "by": "the edge"}
    return {key: {"__prefect_kind": "jinja", "template": text} for key, text in told.items()}


def _deployment(client: SyncPrefectClient, name: str) -> UUID:
    try:
        return client.read_deployment_by_name(name).id
    except ObjectNotFound:
        flows = {flow.id: flow.name for flow in client.read_flows()}
        known = sorted(f"{flows.get(one.flow_id, '?')}/{one.name}" for one in client.read_deployments())
        raise SpecError(f"run = {name!r}: no such deployment on the server; it has {', '.join(known) or 'none yet'}") from None


def _told(client: SyncPrefectClient, sink: Sink, rule: Rule, environment: Mapping[str, str]) -> ActionTypes:
    says = KINDS[rule.on].says
    if sink.block is not None:
        kind, _, name = sink.block.partition("/")
        try:
            found = client.read_block_document_by_name(name, kind)
        except ObjectNotFound:
            raise SpecError(f"sink {sink.name!r}: the server has no block {sink.block}; make it in the UI first") from None
        assert found.id is not None
        return SendNotification(block_document_id=found.id, subject=rule.name, body=says)
    assert sink.url_env is not None
    address = environment.get(sink.url_env, "")
    if not address.startswith(("http://", "https://")):
        raise SpecError(f"sink {sink.name!r}: {sink.url_env} is not set to the address of a webhook (http:// or https://)")
    block = Webhook(method="POST", url=SecretStr(address))
    # `tojson` makes what a template renders one JSON string, whatever an event says.
    name = "event.resource.name if event else ''"  # where nothing came for a while there is no event
    body = '{"line": {{ (' + name + ') | tojson }}, "what": ' + json.dumps(rule.on) + ', "says": ' + _as_json(says) + "}"
    return CallWebhook(
        block_document_id=block.save(f"anomaly-{slug(sink.name).replace('_', '-').replace('.', '-')}", overwrite=True), payload=body
    )


def _as_json(template: str) -> str:
    """A template whose whole text becomes one JSON string."""
    return "{% set says %}" + template + "{% endset %}{{ says | tojson }}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m flows.automations", description=__doc__)
    parser.add_argument("file", type=Path, help="such as deploy/automations.toml")
    file = parser.parse_args().file
    with errors_told():
        for line in apply(read_automations(file)):
            print(line)


if __name__ == "__main__":
    main()
