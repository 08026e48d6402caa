"""Progress passes every item on, and tells the time left from the pace so far."""

import io

import pytest

from detector.progress.bar import Pace, duration, progress


class Clock:
    """Every look at it is `step` seconds after the last."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_lines_tell_the_pace_and_the_time_left() -> None:
    out = io.StringIO()
    items = list(progress("abcd", "detect", stream=out, clock=Clock(6.0)))
    assert items == list("abcd")
    assert out.getvalue().splitlines() == [
        "detect: 1/4 in 0:06, 6.00 s each, 0:18 left",
        "detect: 2/4 in 0:12, 6.00 s each, 0:12 left",
        "detect: 3/4 in 0:18, 6.00 s each, 0:06 left",
        "detect: 4/4 in 0:24, 6.00 s each, 0:00 left",
    ]


def test_a_quick_loop_says_nothing_in_a_log() -> None:
    out = io.StringIO()
    assert list(progress(range(100), "read", stream=out, clock=Clock(0.01))) == list(range(100))
    assert out.getvalue() == ""


def test_the_time_left_counts_what_is_still_to_do() -> None:
    """Six of ten were there already and came at once."""
    out, clock, pace = io.StringIO(), Clock(0.0), Pace()

    def resumed():
        yield from range(6)
        pace.begin()
        for item in range(6, 10):
            clock.now += 6.0
            yield item

    assert list(progress(resumed(), "score", 10, pace=pace, stream=out, clock=clock)) == [
        *range(10)
    ]
    assert out.getvalue().splitlines() == [
        "score: 7/10, 6 of them known, in 0:06, 6.00 s each, 0:18 left",
        "score: 8/10, 6 of them known, in 0:12, 6.00 s each, 0:12 left",
        "score: 9/10, 6 of them known, in 0:18, 6.00 s each, 0:06 left",
        "score: 10/10, 6 of them known, in 0:24, 6.00 s each, 0:00 left",
    ]


def test_a_stream_of_unknown_length_has_no_time_left() -> None:
    out = io.StringIO()
    assert list(progress(iter("ab"), "read", stream=out, clock=Clock(5.0))) == ["a", "b"]
    assert out.getvalue().splitlines()[0] == "read: 1 done in 0:05, 5.00 s each"


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress("ab", "read", quiet=True, clock=Clock(10.0))) == ["a", "b"]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    assert list(progress(range(3), "detect", stream=out)) == [0, 1, 2]
    assert "detect" in out.getvalue()
    assert "3/3" in out.getvalue()

    def resumed(pace: Pace):
        yield 0
        pace.begin()
        yield from (1, 2)

    pace = Pace()
    assert list(progress(resumed(pace), "detect", 3, pace=pace, stream=out)) == [0, 1, 2]
    assert "detect (1 known)" in out.getvalue()
    assert "2/2" in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (605, "10:05"), (3723, "1:02:03")]
)
def test_durations_read_like_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text
