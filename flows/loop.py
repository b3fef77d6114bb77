"""The loop of a line in use, a flow a step: retrain -> compare -> promote, and rollback. `flows.watch` says when.

Each is run alone, by its form in Prefect's UI or by an automation (`flows.automations`). What a flow does stands in `anomaly.operations`.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput

from anomaly.bundle.archive import read_bundle
from anomaly.bundle.release_folder import Entry, ReleaseFolder
from anomaly.errors import BundleError, DataError
from anomaly.operations.compare import Compared, compare
from anomaly.operations.confirmed import overrides, unconfirmed
from anomaly.registry.follow import note_release
from anomaly.spec import read_spec
from flows.pipeline import WORK, alone, artifact_key, fit_all, publish, start
from flows.shared import challenged, emit, named

DAY_S = 86_400


class Approval(RunInput):
    """What a person says in Prefect's form, or by its API."""

    approve: bool
    approver: str
    why: str = ""


@flow(name="retrain", flow_run_name=named("retrain"), timeout_seconds=4 * 3600)
def retrain_flow(
    spec: Path, data: Path, release: Path, store: Path | None = None, line: str | None = None, why: str = "on request", work: Path = WORK
) -> Path | None:
    """Fit anew and publish as challenger, never as champion. Returns the bundle; None where nothing came out that is new.

    With the `store` of the line's monitor nothing is learnt from what lies in its alarms, unless they were acknowledged as false ones.
    """
    log, folder = get_run_logger(), ReleaseFolder(release)
    champion = folder.pointed("champion") if release.is_dir() else None
    keys = {}
    if store is not None and champion is not None:
        schema = read_bundle(champion).manifest.input
        found = unconfirmed(store, line, schema)
        keys = overrides(found, schema, read_spec(spec).input.model_dump(mode="json"))
        log.info(found.says)
    elif store is not None:
        raise DataError(f"{release}: no champion in it, by whose input the alarms in {store} are read; publish one first")
    with alone(spec, work):
        job = start(spec, data, work, overrides=keys)
        published = publish(job, release, "challenger", why, wait_for=[fit_all(job)])
    if folder.pointed("challenger") != published:
        log.info("Nothing new: the same data and spec make the champion that is there.")
        return None
    challenged(release, published, why)
    return published


@flow(name="compare", flow_run_name=named("compare"), timeout_seconds=3600)
def compare_flow(release: Path, data: Path | None = None, store: Path | None = None, line: str | None = None) -> Compared:
    """Champion and challenger on the same recent data, and on what both said on the line. A better challenger is an event of its own."""
    folder = ReleaseFolder(release)
    champion, challenger = folder.pointed("champion"), folder.pointed("challenger")
    if champion is None or challenger is None:
        raise BundleError(f"{release}: has no {'champion' if champion is None else 'challenger'}, so there is nothing to compare")
    if data is None and store is None:
        raise DataError("give data, the store of the line's monitor, or both: there is nothing to compare on")
    found = compare(champion, challenger, data, store, line)
    _show(release, found)
    emit(f"challenger.{found.state.replace(' ', '-')}", release.name, found.says, {"release": str(release), "hash": found.challenger})
    return found


@flow(name="promote", flow_run_name=named("promote"), timeout_seconds=2 * DAY_S)
def promote_flow(
    release: Path, data: Path | None = None, store: Path | None = None, line: str | None = None, wait_s: int = DAY_S
) -> Entry | None:
    """Compare, ask a person, promote by one rename. Returns what was done; None where it was refused, or the challenger is worse.

    No one is asked where the challenger's spec says `[release] approve = "automatic"` and it is better; a worse one is never asked for.
    A run that nobody answers fails after `wait_s`, and nothing has changed.
    """
    log, folder = get_run_logger(), ReleaseFolder(release)
    found = compare_flow(release, data, store, line)
    if found.state == "worse":
        log.warning(f"Not promoted. {found.says}")
        return None
    challenger = folder.pointed("challenger")
    assert challenger is not None
    asked = read_bundle(challenger).manifest.provenance.get("spec", {}).get("release", {}).get("approve", "person")
    if asked == "automatic" and found.state == "better":
        return _promoted(release, folder.promote("automatic, by its spec", found.says, expected=found.challenger))
    question = f"{found.says} Is {challenger.name} to be the champion of {release.name}?"
    answer = pause_flow_run(
        wait_for_input=Approval.with_initial_data(description=question, approve=False, approver=""), timeout=wait_s, poll_interval=2
    )
    if not answer.approver.strip():
        raise DataError("no approver was named, so nothing was promoted; run promote again and say who approves")
    if not answer.approve:
        log.warning(f"Not promoted: {answer.approver} said no. {answer.why}".strip())
        return None
    return _promoted(release, folder.promote(answer.approver, answer.why or found.says, expected=found.challenger))


@flow(name="rollback", flow_run_name=named("rollback"), timeout_seconds=300)
def rollback_flow(release: Path, by: str = "", why: str = "", of: str | None = None) -> Entry:
    """The champion before is champion again. `of`: the hash that is meant, as an edge tells it that went back by itself."""
    done = ReleaseFolder(release).rollback(by or "the flow rollback", why, of)
    note_release(release, get_run_logger())
    emit("rolled-back", release.name, done.in_words(), {"release": str(release)})
    return done


def _promoted(release: Path, done: Entry) -> Entry:
    note_release(release, get_run_logger())
    emit("promoted", release.name, done.in_words(), {"release": str(release), "by": done.by})
    get_run_logger().info(done.in_words())
    return done


def _show(release: Path, found: Compared) -> None:
    rows = [part.row() for part in found.parts]
    text = [f"**{found.says}**", ""]
    if rows:
        text += [
            f"| {' | '.join(rows[0])} |",
            "|" + "---|" * len(rows[0]),
            *(f"| {' | '.join(map(str, row.values()))} |" for row in rows),
            "",
        ]
    text += [f"- {note}" for note in found.notes]
    create_markdown_artifact(key=f"{artifact_key(release.name)}-compared", markdown="\n".join(text) + "\n", description=found.says)
    get_run_logger().info(found.says)
