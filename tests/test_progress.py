"""How far work has got, and how long the rest will take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from anomaly.progress import Course, Part, counted, finished, part, parts, silent, skipped


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_left_follows_the_pace_and_counts_down() -> None:
    clock = Clock()
    course = Course(clock)
    say = Part(course)
    say("features", 0, 100)
    assert course.left() is None  # nothing done yet
    clock.now = 10.0
    say("features", 20, 100)
    assert course.left() == 40.0
    clock.now = 15.0
    assert course.left() == 35.0
    clock.now = 60.0
    assert course.left() is None  # overdue: no figure rather than a wrong one


def test_words_without_a_count_do_not_make_the_rest_longer() -> None:
    clock = Clock()
    course = Course(clock)
    clock.now = 10.0
    Part(course)("features", 50, 100)
    for clock.now in (11.0, 12.0, 13.0):
        Part(course)("a note")
    assert course.left() == 7.0


def test_what_was_there_already_says_nothing_about_the_pace() -> None:
    clock = Clock()
    course = Course(clock)
    steps = parts(Part(course), {"pretrain": 60, "fit": 20, "export": 20})
    skipped(steps["pretrain"])
    assert (course.share, course.left()) == (0.6, None)
    clock.now = 4.0
    finished(steps["fit"])
    left = course.left()
    assert left is not None
    assert abs(left - 4.0) < 1e-9  # export is as long as fit was


def test_loading_says_nothing_about_the_pace() -> None:
    clock = Clock()
    course = Course(clock)
    clock.now = 6.0
    skipped(part(Part(course), 0.0, 0.0))
    clock.now = 8.0
    Part(course)("files", 50, 100)
    assert course.left() == 2.0


def test_a_part_of_a_part() -> None:
    course = Course()
    inner = part(parts(Part(course), {"a": 1, "b": 3})["b"], 0.5, 1.0)
    inner("half", 1, 2)
    assert course.share == 0.25 + 0.75 * 0.75
    assert course.step == "b"


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(-2, 12), st.integers(0, 10))))
def test_a_share_never_falls_and_never_leaves_the_whole(calls: list[tuple[float, float, int, int]]) -> None:
    course = Course()
    before = 0.0
    for start, stop, done, total in calls:
        part(Part(course), start, stop)("work", done, total)
        assert before <= course.share <= 1.0
        before = course.share


def test_a_plain_function_is_progress_too() -> None:
    heard: list[str] = []

    def listen(text: str, done: float | None = None, total: float | None = None) -> None:
        heard.append(text)

    one = parts(listen, {"fit": 1})["fit"]
    one("features", 1, 2)
    finished(one)
    skipped(one)
    assert list(counted([7], part(one, 0.1, 0.2), "files")) == [7]
    assert heard == ["features", "files"]
    silent("nothing", 1, 2)
