"""`python -m flows.weekly STORE... --out FOLDER`: the weekly report of each store; with `--cron` every Monday morning.

python -m flows.weekly plant/anomaly.db --out out/weekly                   # now
python -m flows.weekly plant/anomaly.db --out out/weekly --cron "0 6 * * 1"  # on a schedule, until stopped
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from anomaly.alarms.store import Store
from anomaly.alarms.weekly.report import write_report
from anomaly.errors import StoreError
from anomaly.names import slug


@task(name="week", cache_policy=NO_CACHE, retries=1, retry_delay_seconds=10)
def report(store: Path, out: Path, pdf: bool) -> list[str]:
    """One store's week as a page named by the store. Returns a sentence a line. Raises StoreError for a store that is not there."""
    if not store.is_file():
        raise StoreError(f"{store}: no such store; name the file that the monitor or box writes")
    db = Store(store)
    try:
        return write_report(db, out / f"{slug(store.parent.name + '-' + store.stem)}.html", time.time(), pdf=pdf)
    finally:
        db.close()


@flow(name="weekly")
def weekly_flow(stores: list[Path], out: Path = Path("out/weekly"), pdf: bool = False) -> list[str]:
    """All stores, one after the other; a sentence a line, also as an artifact. One that cannot be read fails the flow after the others."""
    states = [report(store, out, pdf, return_state=True) for store in stores]
    said = [words for state in states if state.is_completed() for words in state.result()]
    for words in said:
        get_run_logger().info("%s", words)
    create_markdown_artifact(key="weekly", markdown="\n".join(f"    {words}" for words in said) or "nothing to report")
    for state in states:
        state.result()
    return said


def main() -> None:
    """Report now, or on a schedule."""
    parser = argparse.ArgumentParser(prog="python -m flows.weekly", description="The weekly report of alarm stores")
    parser.add_argument("stores", nargs="+", type=Path, help="the files that monitors or boxes write")
    parser.add_argument("--out", type=Path, default=Path("out/weekly"))
    parser.add_argument("--pdf", action="store_true", help="also as PDF, by Chromium")
    parser.add_argument("--cron", help='when, such as "0 6 * * 1" for Mondays at six; now and once when not given')
    asked = parser.parse_args()
    if asked.cron is None:
        weekly_flow(asked.stores, asked.out, asked.pdf)
    else:
        parameters = {"stores": [str(store.resolve()) for store in asked.stores], "out": str(asked.out.resolve()), "pdf": asked.pdf}
        weekly_flow.serve(name="weekly", cron=asked.cron, parameters=parameters)


if __name__ == "__main__":
    main()
