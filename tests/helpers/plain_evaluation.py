"""The devkits' loops, one detection at a time, in the devkits' own 1-based inclusive pixels.

Written from the MATLAB of VOCevaldet.m, VOCap.m and eval_detection.m, and sharing no line with the
package: the judge of the fast version.
"""

import math
from dataclasses import dataclass


@dataclass
class Truth:
    image: str
    box: tuple[int, int, int, int]  # xmin, ymin, xmax, ymax
    difficult: bool = False
    taken: bool = False


@dataclass
class Guess:
    image: str
    score: float
    box: tuple[int, int, int, int]


def overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0]) + 1
    high = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if wide <= 0 or high <= 0:
        return 0.0
    both = (a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return wide * high / (both - wide * high)


def voc_outcomes(guesses: list[Guess], truths: list[Truth]) -> list[str]:
    outcomes = []
    for guess in sorted(guesses, key=lambda one: -one.score):  # Python's sort is stable
        best, nearest = -math.inf, None
        for truth in truths:
            if truth.image == guess.image and overlap(guess.box, truth.box) > max(best, 0):
                best, nearest = overlap(guess.box, truth.box), truth
        if nearest is None or best < 0.5:
            outcomes.append("false")
        elif nearest.difficult:
            outcomes.append("ignored")
        elif nearest.taken:
            outcomes.append("false")
        else:
            nearest.taken = True
            outcomes.append("true")
    return outcomes


def ilsvrc_outcomes(guesses: list[Guess], truths: list[Truth]) -> list[str]:
    outcomes = []
    for guess in sorted(guesses, key=lambda one: -one.score):
        best, nearest, excused = -math.inf, None, False
        for truth in truths:
            if truth.image != guess.image or truth.taken:
                continue
            width = truth.box[2] - truth.box[0] + 1
            height = truth.box[3] - truth.box[1] + 1
            needed = min(0.5, width * height / ((width + 10) * (height + 10)))
            shared = overlap(guess.box, truth.box)
            if shared >= needed and truth.difficult:
                excused = True
            elif shared >= needed and shared > best:
                best, nearest = shared, truth
        if nearest is not None:
            nearest.taken = True
            outcomes.append("true")
        else:
            outcomes.append("ignored" if excused else "false")
    return outcomes


def curve(outcomes: list[str], positives: int) -> tuple[list[float], list[float]]:
    recall, precision, right, wrong = [], [], 0, 0
    for outcome in outcomes:
        right += outcome == "true"
        wrong += outcome == "false"
        recall.append(right / positives)
        precision.append(right / (right + wrong) if right + wrong else 0.0)
    return recall, precision


def eleven_points(recall: list[float], precision: list[float]) -> float:
    total = 0.0
    for tenth in range(11):
        beyond = [p for r, p in zip(recall, precision, strict=True) if r >= tenth / 10]
        total += max(beyond, default=0.0) / 11
    return total


def area(recall: list[float], precision: list[float]) -> float:
    steps = [0.0, *recall, 1.0]
    heights = [0.0, *precision, 0.0]
    for i in range(len(heights) - 2, -1, -1):
        heights[i] = max(heights[i], heights[i + 1])
    return sum((steps[i] - steps[i - 1]) * heights[i] for i in range(1, len(steps)))
