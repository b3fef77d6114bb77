"""Records to answers."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomaly.bundle.archive import read_bundle
from anomaly.data.tables.windows import window_ends, windows_at
from anomaly.edge.runtime.batching import score
from anomaly.edge.runtime.session import open_session
from anomaly.edge.sources.window_buffer import WindowBuffer
from tests.conftest import Fitted


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 200), min_size=1, max_size=3), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_windows_are_the_rows_of_their_stretch_however_they_come(sensor: Fitted, stretches: list[int], sizes: list[int]) -> None:
    """Cut in blocks of any size, with gaps anywhere, a window holds rows of one stretch; scored alike."""
    bundle = read_bundle(sensor.bundle)
    times = np.cumsum(np.concatenate([[100.0] + [1.0] * (29 + length) for length in stretches]))
    values = np.random.default_rng(len(times)).standard_normal((len(times), 8)).astype(np.float32)
    session = open_session(bundle, "cpu")
    rolling, records, scores, start = WindowBuffer(bundle.manifest.input), [], [], 0
    for size in [*sizes, len(times)]:
        part = slice(start, start + size)
        found = rolling.extend([str(i) for i in range(len(times))[part]], times[part], values[part])
        scores.append(score(session, found).score)
        records += found
        start += size
    ends = window_ends(times, np.ones(len(times), bool), 30, 50.0)
    assert [record.id for record in records] == [str(end) for end in ends]
    windows = windows_at(values, ends, 30)
    np.testing.assert_array_equal([record.payload for record in records], windows)
    expected = session.run(windows).score
    np.testing.assert_allclose(np.concatenate(scores), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(score(session, records).score, expected, rtol=1e-4, atol=1e-5)


def test_a_row_costs_its_own_window_alone(sensor: Fitted) -> None:
    bundle = read_bundle(sensor.bundle)
    session, rolling = open_session(bundle, "cpu"), WindowBuffer(bundle.manifest.input)
    handed: list[int] = []
    run_stream = session.run_stream
    session.run_stream = lambda rows: handed.append(len(rows)) or run_stream(rows)  # type: ignore[method-assign, func-returns-value]
    for second in range(300):
        score(session, rolling.extend([str(second)], np.array([float(second)]), np.zeros((1, 8), np.float32)))
    assert handed == [30] * 271
