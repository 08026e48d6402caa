"""The page: its handlers, and all of it in a browser."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import served_page
from PIL import Image

gr = pytest.importorskip("gradio", reason="the extra demo is not installed")

from detector.cli import demo  # noqa: E402
from detector.cli.app import run_tool  # noqa: E402
from detector.datasets import read_dataset  # noqa: E402
from detector.demo.lessons import Machine, open_photograph  # noqa: E402
from detector.demo.page import DETECTIONS, PROPOSALS, REGION, SUPPRESSED, Page  # noqa: E402

VIEWS = (DETECTIONS, SUPPRESSED, PROPOSALS, REGION)


@pytest.fixture
def page(bundle: Path) -> Page:
    return Page(Machine(bundle, "cpu", 1))


@pytest.fixture
def photograph(voc: Path) -> str:
    return str(voc / "JPEGImages" / "0.png")


def test_sliders_and_views_need_no_network(
    page: Page, photograph: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, said = list(page.open(photograph, None))[-1]
    assert said.startswith("315 regions judged in ")
    monkeypatch.setattr(type(page.detector.batches), "run", None)
    shown = {view: page.show(look, view, 0.4, 0.3, 315, 3) for view in VIEWS}
    assert len({np.asarray(one[0]).tobytes() for one in shown.values()}) == 4
    picture, said, rows, crop, classes = shown[DETECTIONS]
    assert picture.size == (80, 60)
    assert said.startswith(f"315 regions: {len(rows)} detections, ")
    assert crop.shape == (32, 32, 3)
    assert set(classes) == {"cat", "dog", "background"}
    # More is asked for than there is, as where a smaller photograph came in between.
    assert page.show(look, REGION, 0.2, 0.3, 9999, 9999)[3].shape == (32, 32, 3)
    assert page.show(look, DETECTIONS, 1.0, 0.3, 315, 1)[2] == []


def test_the_best_regions_are_shown_before_the_others_are_judged(
    page: Page, photograph: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.demo.page.FIRST", 0.0)
    (first, before), (last, after) = page.open(photograph, None)
    assert 0 < len(first) < len(last) == 315
    assert before.endswith(f" s, {315 - len(first)} to follow")
    assert after.startswith("315 regions judged in ")
    assert after.endswith(" s")
    for name in ("scores", "boxes"):
        several = getattr(last.scored, name)[: len(first)]
        assert several.tobytes() == getattr(first.scored, name).tobytes()


def test_a_click_names_a_region_in_the_pictures_own_pixels(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (2400, 60)).save(tmp_path / "wide.png")  # shown at half its size
    look = list(page.open(str(tmp_path / "wide.png"), None))[-1][0]
    event = gr.SelectData(None, {"index": [1000, 15], "value": None})
    region, view = page.choose(look, len(look), event)
    x1, y1, x2, y2 = look.scored.proposals.boxes[region - 1].tolist()
    assert x1 <= 2000 < x2
    assert y1 <= 30 < y2
    assert view == REGION


def test_what_cannot_be_used_is_a_sentence(page: Page, tmp_path: Path, photograph: str) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    for name, reason in (("text.jpg", ""), ("huge.png", "over the limit of")):
        ((look, said),) = page.open(str(tmp_path / name), None)
        assert look is None
        assert said.startswith(f"**{name}: ")
        assert reason in said
    assert page.show(None, DETECTIONS, 0.2, 0.3, 315, 1) == (None, "", [], None, None)
    assert next(page.open(None, None))[0] is None
    drawn, number, canvas, said = page.collect([str(tmp_path / "text.jpg"), photograph], [])
    assert (len(drawn), number, canvas["image"].shape) == (1, 0, (60, 80, 3))
    assert said.startswith("**text.jpg: ")
    assert "1 of 1, 0.png: 0 boxes. 0 boxes on 0 photographs so far; at least 5 on 2" in said
    *_, (_, _, _, said, _) = page.learn("mug", drawn, 0, None, [], None, None)
    assert said.startswith("**0 boxes on 0 photographs so far")
    assert page.turn([], 0, None, 1)[1:] == (0, None, "")


def test_a_photograph_without_regions_has_no_region_to_show(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "tiny.png")
    look = next(page.open(str(tmp_path / "tiny.png"), None))[0]
    picture, said, rows, crop, classes = page.show(look, REGION, 0.2, 0.3, 1, 1)
    assert picture.size == (9, 9)
    assert said.startswith("0 regions: 0 detections, 0 suppressed")
    assert (rows, crop, classes) == ([], None, None)


def test_photographs_are_turned_and_keep_their_boxes(
    page: Page, voc: Path, photograph: str
) -> None:
    other = str(voc / "JPEGImages" / "1.png")
    drawn, number, canvas, _ = page.collect([photograph, other], [])
    box = {"xmin": 1.0, "ymin": 2.0, "xmax": 11.0, "ymax": 22.0}
    canvas["boxes"] = [box]
    drawn, said = page.count(drawn, number, canvas)
    assert said.startswith("1 of 2, 0.png: 1 box. 1 box on 1 photograph so far")
    drawn, number, canvas, said = page.turn(drawn, number, canvas, 1)
    assert (number, canvas["boxes"]) == (1, [])
    drawn, number, canvas, said = page.turn(drawn, number, canvas, 1)
    assert (number, canvas["boxes"]) == (0, [box])
    # A further upload keeps what is drawn; a removed photograph goes with its boxes.
    drawn, *_ = page.collect([other, photograph, other], drawn)
    assert [one.boxes for one in drawn] == [(), ((1.0, 2.0, 11.0, 22.0),), ()]


def test_a_lesson_changes_the_first_tab_too(page: Page, voc: Path, photograph: str) -> None:
    dataset = read_dataset(voc, "train").with_classes(["mug"])
    drawn = [
        replace(open_photograph(one.path), boxes=tuple(one.annotations.boxes.tolist()))
        for one in dataset.samples
    ]
    look = list(page.open(photograph, None))[-1][0]
    others = [photograph, str(voc / "none.png")]
    rows = list(page.learn("mug", drawn, 0, None, others, look, None))
    lessons, _, _, said, gallery = rows[-1]
    try:
        assert "mug: 6 boxes in 6 images; AP " in said
        assert "none.png" in said
        assert [caption for _, caption in gallery] == ["1 mug in 0.png"]
        changed = next(row for row in rows if row[2] != gr.skip())[1]
        assert changed.detector.classes == ("cat", "dog", "mug")
        assert list(page.open(photograph, lessons))[-1][0].detector is changed.detector
        assert list(page.find([photograph], lessons))[-1][0][0][1] == "1 mug in 0.png"
        assert list(page.find([photograph], None)) == []
    finally:
        lessons.close()


def test_without_gradio_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "detector.demo.page")
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(SystemExit) as end:
        run_tool(demo.main, ["--no-browser"])
    assert end.value.code == 2
    assert 'needs gradio, which is not installed; pip install "inception-rcnn[demo]"' in (
        capsys.readouterr().err
    )


@pytest.fixture
def address(bundle: Path, tmp_path: Path) -> Iterator[str]:
    """A page that is served, by its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"GRADIO_TEMP_DIR": str(tmp_path / "uploads"), "TMPDIR": str(tmp_path)}
    server = subprocess.Popen(
        [sys.executable, served_page.__file__, str(bundle), str(port)], env=os.environ | place
    )
    for _ in range(600):
        with socket.socket() as probe:
            if server.poll() is not None or probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    server.send_signal(signal.SIGINT)
    server.wait()
    # Ctrl-C leaves nothing of a visit behind.
    assert list(tmp_path.glob("lessons-*")) == []


@pytest.fixture
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 400])
def test_upload_slide_draw_learn_and_take_it_home_in_a_browser(
    address: str, browser: Any, voc: Path, tmp_path: Path, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 1000})
    page.set_default_timeout(60_000)
    elsewhere, errors = [], []
    page.on("request", lambda one: elsewhere.append(one.url))
    page.on("pageerror", lambda one: errors.append(str(one)))
    page.on("console", lambda one: one.type == "error" and errors.append(one.text))
    page.goto(address)

    def says(where: str, text: str) -> None:
        page.locator(where).get_by_text(text).wait_for()

    def fits() -> bool:
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return bool(page.evaluate(wide) <= 0)

    (tmp_path / "text.jpg").write_text("no image")
    page.set_input_files("#photograph input[type=file]", tmp_path / "text.jpg")
    says("#said", "text.jpg: ")
    page.locator("#photograph button[aria-label=Clear]").click()
    files = sorted((voc / "JPEGImages").iterdir())
    page.set_input_files("#photograph input[type=file]", files[0])
    says("#said", "315 regions judged")
    page.locator("#threshold input[type=number]").fill("0.4")
    page.keyboard.press("Enter")
    says("#counts", "315 regions: ")
    pictures = set()
    for view in VIEWS:
        page.locator("#view").get_by_text(view, exact=True).click()
        page.wait_for_timeout(1500)
        pictures.add(page.locator("#picture img").get_attribute("src"))
    assert len(pictures) == len(VIEWS)
    page.locator("#picture img").click()  # in the middle, where the first region is not
    page.wait_for_timeout(1500)
    assert page.locator("#region input[type=number]").input_value() != "1"
    page.locator("#regions input[type=number]").fill("10")
    page.keyboard.press("Enter")
    says("#counts", "10 regions: ")
    assert fits()

    page.get_by_role("tab", name="Teach").click()
    page.locator("#learn").click()
    says("#learnt", "give the new class a name")
    page.locator("#name input, #name textarea").fill("mug")
    page.locator("#learn").click()
    says("#learnt", "0 boxes on 0 photographs so far")
    page.set_input_files("#files input[type=file]", files[1:])
    dataset = read_dataset(voc, "train").with_classes(["mug"])
    truth = {one.path.name: one.annotations.boxes for one in dataset.samples}
    for number, file in enumerate(files[1:], 1):
        says("#count", f"{number} of 5, {file.name}: 0 boxes.")
        page.wait_for_timeout(500)
        canvas = page.locator("#canvas canvas")
        canvas.scroll_into_view_if_needed()
        place = canvas.bounding_box()
        scale = min(place["width"] / 80, place["height"] / 60)
        left = place["x"] + (place["width"] - 80 * scale) / 2
        top = place["y"] + (place["height"] - 60 * scale) / 2
        for x1, y1, x2, y2 in truth[file.name].tolist():
            page.mouse.move(left + scale * x1, top + scale * y1)
            page.mouse.down()
            page.mouse.move(left + scale * x2, top + scale * y2, steps=4)
            page.mouse.up()
        says("#count", f"{number} of 5, {file.name}: 1 box.")
        if file != files[-1]:
            page.get_by_role("button", name="Next").click()
    page.set_input_files("#others input[type=file]", files[:2])
    page.locator("#learn").click()
    says("#learnt", "mug: 5 boxes in 5 images")
    says("#gallery", "mug in 1.png")
    assert page.locator("#gallery img").count() == 2
    with page.expect_download() as download:
        page.locator("#download").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert "bundle.json" in archive.namelist()
    assert fits()
    assert [url for url in elsewhere if not url.startswith((address, "data:", "blob:"))] == []
    assert errors == []
