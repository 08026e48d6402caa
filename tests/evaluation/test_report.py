"""The report: one file without network or scripts, text escaped, and seen by a real browser."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.datasets import Dataset, Sample
from detector.evaluation import Interval, evaluate
from detector.evaluation.coverage import coverage
from detector.evaluation.diagnosis.diagnosis import diagnose
from detector.evaluation.diagnosis.misses import evidence_of
from detector.evaluation.report.charts import Chart, percent
from detector.evaluation.report.page import Bar, Report, report_html
from detector.structures import Annotations, Detections, Proposals

HOSTILE = "<script>alert(1)</script>&\"'\x07"
CAT, DOG = 0, 1


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """Three images of a cat: found with a duplicate, called a dog, and not proposed."""
    box = [10, 10, 60, 60]
    pixels = np.random.default_rng(0).integers(0, 255, (80, 100, 3), dtype=np.uint8)
    samples = []
    for name in "abc":
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        truth = Annotations([box], [CAT])
        samples.append(Sample(name, tmp_path / f"{name}.png", (80, 100), truth))
    dataset = Dataset("pets", ("cat", HOSTILE), tuple(samples))
    results = {
        "a": Detections([box, [10, 10, 60, 58]], [0.9, 0.8], [CAT, CAT]),
        "b": Detections([box], [0.7], [DOG]),
    }
    regions = {
        name: (Proposals([[70, 0, 90, 9], *found], (80, 100)), np.full((1 + len(found), 3), 1 / 3))
        for name, found in (("a", [box]), ("b", [box]), ("c", []))
    }
    diagnosis = diagnose(dataset, results, 0.5, evidence_of(dataset, regions))
    boxes = {name: found for name, (found, _) in regions.items()}
    return Report(
        dataset,
        evaluate(dataset, results, rounds=0),
        diagnosis,
        "python tools/evaluate.py --data 'a<b' --report",
        coverage=coverage(dataset, boxes, [1, None]),
    )


def test_the_page_stands_by_itself_and_says_what_was_found(report: Report) -> None:
    page = report_html(report)
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"<script|https?:|@import|url\(|src=\"(?!data:)|href=\"(?!data:)", page)
    figures = re.findall(r"<h2>(.*?)</h2>", page)
    assert figures == [
        "Where points are lost", "Why objects are missed", "Recall against proposals",
        "Calibration", "By size and shape", "What each stage allows", "Classes",
        "Precision and recall", "Confusions", "Worst images",
    ]  # fmt: skip
    command = "python tools/evaluate.py --data &#39;a&lt;b&#39; --report"
    assert page.count(f"<code>{command}</code>") == len(figures)
    assert page.count("data:image/jpeg;base64,") == 3
    assert "<b>33.3</b><span>mAP</span>" in page  # one of three cats, first in the ranking
    assert "<div>not proposed</div>" in page
    assert len(page.encode()) < 100_000


def test_the_head_names_what_was_judged_and_both_counts_of_false_alarms(report: Report) -> None:
    page = report_html(replace(report, judged="weights runs/<pets>", date="2026-11-30"))
    assert "weights runs/&lt;pets&gt; · data pets · 2026-11-30" in page
    assert "Of the 2 false alarms 2 have a score of 0.50 or more" in page
    strict = replace(report.diagnosis, threshold=0.75)
    assert "Of the 2 false alarms 1 have a score of 0.75" in report_html(
        replace(report, diagnosis=strict)
    )


def test_one_class_has_a_curve_with_ticks_and_many_have_rows_that_are_full(report: Report) -> None:
    one = report_html(report)  # two classes, of which one has objects
    assert 'aria-label="cat"' in one
    assert 'class="panels"' not in one
    assert one.count('class="wide"') == 1  # the pictures
    names = tuple(f"class {n}" for n in range(9))
    truth = Annotations([[10, 10, 60, 60]] * 9, list(range(9)))
    sample = replace(report.dataset.samples[0], annotations=truth)
    dataset = Dataset("nine", names, (sample,))
    results = {"a": Detections([[10, 10, 60, 60]], [0.9], [0])}
    nine = report_html(
        Report(dataset, evaluate(dataset, results), diagnose(dataset, results, 0.5), "command")
    )
    assert "--columns:5" in nine  # five and four, not eight and one
    assert nine.count('class="wide"') == 3


def test_names_from_files_are_text_and_never_markup(report: Report) -> None:
    samples = tuple(
        replace(sample, image_id=f"{HOSTILE}{place}\udcff")
        for place, sample in enumerate(report.dataset.samples)
    )
    hostile = replace(report.dataset, name=HOSTILE, samples=samples)
    page = report_html(replace(report, dataset=hostile, command=HOSTILE))
    assert "<script" not in page
    assert "\x07" not in page
    assert "<h1>&lt;script&gt;alert(1)&lt;/script&gt;&amp;&#34;&#39;\\x07</h1>" in page
    page.encode()  # half a letter of a file name was made visible


def test_an_image_that_is_gone_costs_only_its_picture(report: Report) -> None:
    report.dataset.samples[2].path.unlink()
    page = report_html(report)
    assert page.count("data:image/jpeg;base64,") == 2
    assert page.count("cannot be read") == 1


def test_without_regions_there_is_no_curve_of_proposals(report: Report) -> None:
    page = report_html(replace(report, coverage=None))
    assert "Recall against proposals" not in page


def test_the_interval_stands_beside_the_map(report: Report) -> None:
    interval = Interval(1 / 3, 0.1, 0.625)
    evaluation = replace(report.evaluation, interval=interval)
    page = report_html(replace(report, evaluation=evaluation))
    assert "<b>33.3</b><span>mAP, 95 % interval 10.0 to 62.5</span>" in page


def test_a_chart_puts_its_ends_on_the_corners_of_the_frame() -> None:
    curve = (np.array([1, 10, 100]), np.array([0.0, 0.5, 1.0]))
    assert Chart("c", [curve], "x", (1, 100), logarithmic=True).lines() == [
        "40.0,212.0 214.0,110.0 388.0,8.0"
    ]


def test_a_number_that_does_not_exist_is_a_dash_and_its_bar_has_no_width() -> None:
    assert percent(float("nan")) == "–"
    assert [Bar("", share, "").width for share in (float("nan"), -0.1, 0.25, 1.5)] == [
        "0.0", "0.0", "25.0", "100.0",
    ]  # fmt: skip


PROBE = """
<script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument;
  const box = one => one.getBoundingClientRect();
  const seen = one => box(one).width + box(one).height > 5;
  const all = what => [...page.querySelectorAll(what)];
  document.body.dataset.found = JSON.stringify({
    images: all("img").filter(one => one.complete && one.naturalWidth > 0 && seen(one)).length,
    curves: all("polyline").filter(seen).length,
    bars: all(".bars i").filter(one => box(one).width >= 2).length,
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    small: all("p, h2, svg text").filter(one => seen(one) && box(one).height < 6).length,
  });
};
</script>
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 400])
def test_a_browser_shows_pictures_and_curves_without_errors(
    report: Report, tmp_path: Path, width: int
) -> None:
    """The page lies in a frame of that width: a browser's own window may not be so narrow."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    frame = html.escape(report_html(report), quote=True)
    page = tmp_path / "frame.html"
    page.write_text(
        f'<!DOCTYPE html><body><iframe style="width:{width}px;height:900px" srcdoc="{frame}">'
        f"</iframe>{PROBE}</body>"
    )
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu",
            "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1500,1000", "--enable-logging=stderr", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    answer = re.search(r'data-found="([^"]*)"', done.stdout)
    assert answer is not None
    found = json.loads(html.unescape(answer[1]))
    assert found["images"] == 3
    assert found["curves"] == 5  # one class, reliability, three of the proposals
    assert found["bars"] >= 8
    assert found["overflow"] <= 0
    assert found["small"] == 0
