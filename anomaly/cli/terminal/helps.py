"""Where each command stands in `anomaly --help`, and examples of it. tests/cli/terminal/test_help.py parses every one."""

from __future__ import annotations

from anomaly.cli.terminal.command import Help

START, JUDGE, RUN, AFTER, OTHER = "Start", "Judge", "Run beside the line", "Look after", "Start from another line"

HELPS = {
    "init": Help(START, ["anomaly init good", "anomaly init export.csv --name 'Pump 3' --budget '2 a day' --out pump.toml"]),
    "fit": Help(START, ["anomaly fit good", "anomaly fit line.toml --data good --out line.anomaly"]),
    "check": Help(START, ["anomaly check line.toml", "anomaly check line.toml --data good"]),
    "inspect": Help(START, ["anomaly inspect export.csv"]),
    "table": Help(
        START,
        [
            "anomaly table history.csv --long tag,value --zone Europe/Berlin --out readings.parquet",
            "anomaly table env:PLANT_DB --query 'SELECT * FROM history' --out readings.parquet",
        ],
    ),
    "evaluate": Help(JUDGE, ["anomaly evaluate line.anomaly --data labelled --report line.html"]),
    "score": Help(JUDGE, ["anomaly score line.anomaly new", "anomaly score line.anomaly new --csv scores.csv --exit-zero"]),
    "batch": Help(
        JUDGE,
        [
            "anomaly batch line.anomaly archive --out scored",
            "anomaly batch line.anomaly s3://history/line3 --out scored --workers 8",
            "anomaly batch line.anomaly env:PLANT_DB --query 'SELECT * FROM history' --out scored",
        ],
    ),
    "flagged": Help(JUDGE, ["anomaly flagged line.anomaly new --out flagged"]),
    "monitor": Help(
        RUN,
        ["anomaly monitor line.anomaly --source new --once", "anomaly monitor line.anomaly --source mqtt://broker/plant --store line.db"],
    ),
    "box": Help(RUN, ["anomaly box box.toml --listen 127.0.0.1:9464"]),
    "bench": Help(RUN, ["anomaly bench line.anomaly --batch 1,8 --choose"]),
    "doctor": Help(RUN, ["anomaly doctor", "anomaly doctor line.anomaly"]),
    "transfer": Help(OTHER, ["anomaly transfer other.anomaly line.toml --data good --out line.anomaly"]),
    "sources": Help(OTHER, ["anomaly sources line.toml --data good --source a.anomaly --source b.anomaly"]),
    "curve": Help(OTHER, ["anomaly curve other.anomaly line.toml --data labelled --out curve.html"]),
    "pretrain": Help(OTHER, ["anomaly pretrain line.toml --data good --out line.safetensors"]),
    "page": Help(RUN, []),
    "bundle": Help(AFTER, []),
    "release": Help(AFTER, []),
    "alarms": Help(AFTER, []),
    "alerts": Help(AFTER, []),
    "page token": Help(RUN, ["anomaly page token --name 'A. Meier' --role operate"]),
    "bundle inspect": Help(AFTER, ["anomaly bundle inspect line.anomaly", "anomaly bundle inspect line.anomaly --json"]),
    "bundle verify": Help(AFTER, ["anomaly bundle verify line.anomaly --key ours.pub.pem"]),
    "bundle sign": Help(AFTER, ["anomaly bundle sign line.anomaly --key ours.pem"]),
    "bundle variants": Help(AFTER, ["anomaly bundle variants line.anomaly --data good"]),
    "release history": Help(AFTER, ["anomaly release history out/release/press"]),
    "release promote": Help(AFTER, ["anomaly release promote out/release/press --by 'A. Meier' --why 'two weeks beside the line'"]),
    "release rollback": Help(AFTER, ["anomaly release rollback out/release/press --why 'it flags every second part'"]),
    "release withdraw": Help(AFTER, ["anomaly release withdraw out/release/press"]),
    "alarms list": Help(AFTER, ["anomaly alarms list --store line.db", "anomaly alarms list --json"]),
    "alarms show": Help(AFTER, ["anomaly alarms show 3f2a"]),
    "alarms ack": Help(AFTER, ["anomaly alarms ack 3f2a --why 'seen, part thrown out'", "anomaly alarms ack --all --line pump-3"]),
    "alarms shelve": Help(AFTER, ["anomaly alarms shelve 3f2a --for 8h"]),
    "alarms unshelve": Help(AFTER, ["anomaly alarms unshelve 3f2a"]),
    "alarms out-of-service": Help(AFTER, ["anomaly alarms out-of-service --line pump-3 --why 'sensor is being changed'"]),
    "alarms in-service": Help(AFTER, ["anomaly alarms in-service --line pump-3"]),
    "alarms suppress": Help(AFTER, ["anomaly alarms suppress --line pump-3"]),
    "alarms unsuppress": Help(AFTER, ["anomaly alarms unsuppress --line pump-3"]),
    "alarms history": Help(AFTER, ["anomaly alarms history --line pump-3"]),
    "alarms label": Help(
        AFTER,
        [
            "anomaly alarms label 3f2a --real --kind scratch --box 120,40,64,32",
            "anomaly alarms label 3f2a 9b01 --nuisance --reason 'a new batch of steel'",
        ],
    ),
    "alarms labels": Help(AFTER, ["anomaly alarms labels line.db", "anomaly alarms labels line.db --out labels"]),
    "alarms weekly": Help(AFTER, ["anomaly alarms weekly line.db --out week.html", "anomaly alarms weekly line.db --out week.html --pdf"]),
    "alarms erase": Help(AFTER, ["anomaly alarms erase 3f2a --why 'a face is seen in it'", "anomaly alarms erase --before 30d"]),
    "alarms simulate": Help(AFTER, ["anomaly alarms simulate line.anomaly --data history --on-delay 30"]),
    "alerts test": Help(AFTER, ["anomaly alerts test mail --alerts alerts.toml"]),
    "alerts dead-letters": Help(AFTER, ["anomaly alerts dead-letters --store line.db"]),
    "alerts replay": Help(AFTER, ["anomaly alerts replay --sink mail"]),
}
