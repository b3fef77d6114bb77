"""Births, data and deaths of Sparkplug B, as readings of the sensors we know."""

from __future__ import annotations

import math

import pytest

from anomaly.buses.sparkplug import Metric, Payload, decode
from anomaly.edge.sources.live.sparkplug import SparkplugReader, Told, parse_topic, rebirth_request
from anomaly.errors import RecordError
from tests.buses.test_sparkplug import BIRTH, DATA

NODE, PRESS, OVEN = ("g", "n", ""), ("g", "n", "press"), ("g", "n", "oven")
SENSORS = {"pressure", "flow", "valve", "on", "count", "text", "gone", "oven/heat"}


@pytest.fixture
def reader() -> SparkplugReader:
    return SparkplugReader(SENSORS.__contains__)


def metric(name: str, value: float, **more: object) -> Metric:
    return Metric(name, datatype=10, field="double_value", value=value, **more)  # type: ignore[arg-type]


def payload(*metrics: Metric, time: float = 5.0) -> Payload:
    return Payload(time, metrics)


def test_births_and_data(reader: SparkplugReader) -> None:
    early = reader.take("NDATA", NODE, decode(DATA), 0.0)
    assert early.rebirth
    assert early.problems[0] == "g/n: a metric with the alias 1, which no birth has named"
    born = reader.take("NBIRTH", NODE, decode(BIRTH), 0.0)
    ((moment, readings),) = born.readings
    assert moment == 1_700_000_000.5
    assert math.isnan(readings.pop("gone"))
    assert readings == {"pressure": 1.25, "flow": -0.5, "valve": -7.0, "on": 1.0, "count": float(1 << 40)}
    assert born.problems == ["g/n: metric 'text' holds a text"]
    later = reader.take("NDATA", NODE, decode(DATA), 0.0)
    assert later.readings == [(1_700_000_002.0, {"pressure": 2.5})]
    assert later.problems == ["g/n: 1 readings of an earlier time (is_historical) came late and are not scored"]


def test_a_data_message_may_leave_the_datatype_to_the_birth(reader: SparkplugReader) -> None:
    reader.take("NBIRTH", NODE, payload(Metric("valve", 3, datatype=1, field="int_value", value=5)), 0.0)
    for named in (Metric("valve", field="int_value", value=249), Metric("", 3, field="int_value", value=0xFFFFFFF9)):
        assert reader.take("NDATA", NODE, payload(named), 0.0).readings == [(5.0, {"valve": -7.0})]


def test_a_dataset_is_said_once_and_spoils_nothing(reader: SparkplugReader) -> None:
    table = Metric("flow", datatype=16, field="dataset_value", value=b"")
    template = Metric("recipe", datatype=19, field="template_value", value=b"")  # not a sensor of ours: no word
    found = [reader.take("NDATA", NODE, payload(table, template, metric("pressure", 1.0)), 0.0) for _ in range(3)]
    assert [each.problems for each in found] == [["g/n: metric 'flow' holds a DataSet"], [], []]
    assert {str(each.readings) for each in found} == {"[(5.0, {'pressure': 1.0})]"}


def test_a_death_leaves_no_value_held(reader: SparkplugReader) -> None:
    reader.take("NBIRTH", NODE, payload(Metric("bdSeq", datatype=4, field="long_value", value=7), metric("pressure", 1.0)), 0.0)
    reader.take("DBIRTH", PRESS, payload(metric("flow", 2.0, time=6.0)), 0.0)
    old = payload(Metric("bdSeq", datatype=4, field="long_value", value=6))
    assert reader.take("NDEATH", NODE, old, 0.0) == Told()  # of the session before this birth
    ((moment, readings),) = reader.take("DDEATH", PRESS, payload(), 0.0).readings
    assert (moment, list(readings), math.isnan(readings["flow"])) == (6.0, ["flow"], True)
    reader.take("DBIRTH", PRESS, payload(metric("flow", 2.0)), 0.0)
    gone = reader.take("NDEATH", NODE, payload(Metric("bdSeq", datatype=4, field="long_value", value=7)), 0.0)
    assert [(moment, sorted(readings)) for moment, readings in gone.readings] == [(5.0, ["flow", "pressure"])]
    assert reader.take("NDATA", NODE, payload(Metric("", 1, field="double_value", value=1.0)), 0.0).rebirth


def test_two_devices_with_the_same_metric_are_not_mixed_up(reader: SparkplugReader) -> None:
    assert reader.take("DBIRTH", PRESS, payload(metric("flow", 1.0), metric("heat", 1.0)), 0.0).readings == [(5.0, {"flow": 1.0})]
    other = reader.take("DBIRTH", OVEN, payload(metric("flow", 9.0), metric("heat", 3.0)), 0.0)
    assert other.readings == [(5.0, {"oven/heat": 3.0})]
    assert "is told by g/n/press as well" in other.problems[0]
    reader.take("DDEATH", PRESS, payload(), 0.0)
    assert reader.take("DBIRTH", OVEN, payload(metric("flow", 9.0)), 0.0).readings == [(5.0, {"flow": 9.0})]


def test_an_impossible_time_is_a_problem_and_spoils_nothing(reader: SparkplugReader) -> None:
    found = reader.take("NDATA", NODE, payload(metric("flow", 1.0, time=(2**64 - 1) / 1000), metric("pressure", 2.0)), 0.0)
    assert found.readings == [(5.0, {"pressure": 2.0})]
    assert "impossible time" in found.problems[0]


def test_topics() -> None:
    assert parse_topic("spBv1.0/STATE/scada") is None
    assert parse_topic("spBv1.0/g/NCMD/n") is None
    assert parse_topic("spBv1.0/g/DDATA/n/d") == ("DDATA", ("g", "n", "d"))
    for bad in ("spBv1.0/x", "spBv1.0/g/NDATA/n/d", "spBv1.0/g/DDATA/n", "spBv1.0/g/HELLO/n", "spBv1.0//NDATA/n"):
        with pytest.raises(RecordError, match="Sparkplug B"):
            parse_topic(bad)
    topic, command = rebirth_request(("g", "n", "d"), 5.0)
    assert topic == "spBv1.0/g/NCMD/n"
    assert [(m.name, m.number()) for m in decode(command).metrics] == [("Node Control/Rebirth", 1.0)]
