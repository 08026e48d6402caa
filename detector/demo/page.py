"""The page: gradio's components, and what happens when they are used.

Handlers run one at a time, in a thread of gradio. Errors of ours become a sentence on the page.
What a visitor has uploaded, drawn and taught is state of the visit alone.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio_image_annotation import image_annotator

from detector.demo.lessons import Drawn, Lessons, Machine, open_photograph, what_is_missing
from detector.demo.look import LONGEST, Look, look_again, looks_at
from detector.errors import DetectorError
from detector.images.decoding import MAX_BYTES
from detector.progress.messages import pluralise

DETECTIONS, SUPPRESSED, PROPOSALS, REGION = "detections", "suppressed", "proposals", "one region"
COLUMNS = ["class", "score", "x1", "y1", "x2", "y2"]
DROP_ONE = "Drop a photograph on the field above."
DRAW = """Drop photographs of something new, draw a box around each one that they show, and give it
a name. At least 5 boxes on 2 photographs, around *all* of them: the rest teaches what it is not."""
# Seconds for the regions that are shown first, where all of them take longer.
FIRST = 2.0
# Regions of the sliders where a detector has no limit.
MOST = 2000
# Seconds between two signs of life of a lesson, and between two looks for abandoned uploads.
TICK, SWEEP = 1, 3600

Row = tuple[Any, ...]


class Page:
    """The handlers of the page: values of components in, values or updates of components out."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.detector = machine.load(machine.bundle)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="lessons")

    def open(self, path: str | None, lessons: Lessons | None) -> Iterator[Row]:
        """Judge a photograph: the look at it and a sentence, first for the regions that there is
        time for, then for all.
        """
        if path is None:
            yield None, DROP_ONE
            return
        started = time.perf_counter()
        detector = (lessons and lessons.detector) or self.detector
        try:
            for look in looks_at(detector, path, FIRST):
                seconds = time.perf_counter() - started
                said = f"{pluralise(len(look), 'region')} judged in {seconds:.1f} s"
                yield look, said + (f", {look.left} to follow" if look.left else "")
        except DetectorError as error:
            yield None, _bold(error, path)

    def show(
        self, look: Look | None, view: str, threshold: float, overlap: float, regions: int,
        region: int,
    ) -> Row:  # fmt: skip
        """The picture, a sentence, the table of detections, and a region's crop and scores."""
        if look is None:
            return None, "", [], None, None
        regions = min(int(regions), len(look))
        found = look.detections(threshold, overlap, regions)
        suppressed = look.suppressed(threshold, overlap, regions)
        rows = [
            [found.classes[label], round(score, 3), *(round(float(at)) for at in box)]
            for box, score, label in found
        ]
        said = (
            f"{pluralise(regions, 'region')}: {pluralise(len(found), 'detection')},"
            f" {len(suppressed)} suppressed. Click an object to see what the classes say of it."
        )
        if not regions:  # of a tiny photograph
            return look.draw_detections(found), said, rows, None, None
        chosen = min(int(region), regions) - 1
        pictures: dict[str, Callable[[], Any]] = {
            DETECTIONS: partial(look.draw_detections, found),
            SUPPRESSED: partial(look.draw_suppressed, found, suppressed),
            PROPOSALS: partial(look.draw_proposals, regions),
            REGION: partial(look.draw_region, chosen),
        }
        return pictures[view](), said, rows, look.crop_of(chosen), look.classes_of(chosen)

    def choose(self, look: Look | None, regions: int, event: gr.SelectData) -> Row:
        """The number of the region under a click, and the view that shows it."""
        if look is None:
            return gr.skip(), gr.skip()
        scale = max(1.0, max(look.image.shape[:2]) / LONGEST)
        x, y = (scale * float(at) for at in event.index)
        region = look.region_at(x, y, int(regions))
        return (gr.skip(), gr.skip()) if region is None else (region + 1, REGION)

    def collect(self, paths: Sequence[str] | None, before: Sequence[Drawn]) -> Row:
        """The photographs to draw on; those of before keep their boxes."""
        known = {str(one.path): one for one in before}
        drawn, wrong = [], []
        for path in paths or []:
            try:
                drawn.append(known.get(path) or open_photograph(path))
            except DetectorError as error:
                wrong.append(_bold(error, path))
        canvas, said = _canvas(drawn, 0)
        return drawn, 0, canvas, "\n\n".join([*wrong, said])

    def turn(self, drawn: Sequence[Drawn], number: int, canvas: Any, step: int) -> Row:
        """The next photograph, or the one before."""
        drawn = _with_boxes(drawn, number, canvas)
        number = (number + step) % max(1, len(drawn))
        return drawn, number, *_canvas(drawn, number)

    def count(self, drawn: Sequence[Drawn], number: int, canvas: Any) -> Row:
        """The photographs with the boxes of now, and a sentence on them."""
        drawn = _with_boxes(drawn, number, canvas)
        return drawn, _sentence(drawn, number)

    def learn(
        self, name: str, drawn: Sequence[Drawn], number: int, canvas: Any, others: Sequence[str],
        look: Look | None, lessons: Lessons | None,
    ) -> Iterator[Row]:  # fmt: skip
        """Learn a class, then look for it in the other photographs: the visitor's lessons, the look
        of the first tab, the download, a sentence and a gallery.
        """
        drawn = _with_boxes(drawn, number, canvas)
        lessons = lessons or Lessons(self.machine)
        keep, started = gr.skip(), time.perf_counter()
        job = self._pool.submit(lessons.learn, name, drawn)
        while not wait([job], TICK).done:
            seconds = time.perf_counter() - started
            yield lessons, keep, keep, f"Learning {name.strip()}: {seconds:.0f} s", keep
        try:
            report = job.result()
        except DetectorError as error:
            yield lessons, keep, keep, _bold(error), keep
            return
        said = f"Learnt in {time.perf_counter() - started:.0f} s. {report}."
        said = "\n\n".join([said, *(_bold(warning) for warning in report.warnings)])
        download = gr.update(value=str(lessons.archive()), interactive=True)
        assert lessons.detector is not None
        yield lessons, look and look_again(look, lessons.detector), download, said, keep
        for pictures, wrong in self.find(others, lessons):
            yield lessons, keep, keep, said + wrong, pictures

    def find(self, others: Sequence[str] | None, lessons: Lessons | None) -> Iterator[Row]:
        """Look for the taught classes in other photographs: a gallery that grows, and sentences
        about those that cannot be read.
        """
        pictures, wrong = [], ""
        if lessons is None or lessons.detector is None:
            return
        for path in others or []:
            try:
                pictures.append(lessons.found(path))
            except DetectorError as error:
                wrong += f"\n\n{_bold(error, path)}"
            yield list(pictures), wrong


def make_page(machine: Machine) -> gr.Blocks:
    """The page, for its `launch`."""
    page = Page(machine)
    with gr.Blocks(
        title="inception-rcnn", analytics_enabled=False, delete_cache=(SWEEP, SWEEP)
    ) as blocks:
        look = gr.State()
        lessons = gr.State(delete_callback=lambda one: one and one.close())
        with gr.Tab("Detect"):
            _detect_tab(page, look, lessons)
        with gr.Tab("Teach"):
            _teach_tab(page, look, lessons)
    return blocks


def _detect_tab(page: Page, look: gr.State, lessons: gr.State) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            photograph = gr.File(label="A photograph", elem_id="photograph", height=120)
            said = gr.Markdown(DROP_ONE, elem_id="said")
            picture = gr.Image(
                show_label=False, elem_id="picture", format="jpeg", interactive=False,
                buttons=["download", "fullscreen"],
            )  # fmt: skip
            counts = gr.Markdown(elem_id="counts")
        with gr.Column(min_width=320):
            settings = page.detector.settings
            view = gr.Radio(
                [DETECTIONS, SUPPRESSED, PROPOSALS, REGION], value=DETECTIONS, label="Show",
                elem_id="view",
            )  # fmt: skip
            threshold = gr.Slider(
                0.01, 1, settings.score_threshold, step=0.01, label="Lowest score",
                elem_id="threshold",
            )  # fmt: skip
            overlap = gr.Slider(
                0, 1, settings.nms_threshold, step=0.05, elem_id="overlap",
                label="Highest overlap (IoU)",
            )  # fmt: skip
            most = page.detector.limit or MOST
            regions = gr.Slider(
                1, most, most, step=1, label="Regions, best first", elem_id="regions"
            )  # fmt: skip
            region = gr.Slider(1, most, 1, step=1, label="One region, by rank", elem_id="region")
            with gr.Row():
                crop = gr.Image(
                    label="Its crop", format="png", interactive=False, buttons=[],
                    min_width=140, elem_id="crop",
                )  # fmt: skip
                classes = gr.Label(
                    label="Its scores", min_width=220, show_heading=False, elem_id="classes"
                )
    table = gr.Dataframe(headers=COLUMNS, label="Detections", interactive=False, elem_id="table")
    controls: list[Any] = [view, threshold, overlap, regions, region]
    shown = {
        "fn": page.show,
        "inputs": [look, *controls],
        "outputs": [picture, counts, table, crop, classes],
    }
    photograph.change(page.open, [photograph, lessons], [look, said], show_progress_on=[said])
    # A state that has changed is noticed when its handler ends, as that of a lesson; the sentence
    # as soon as it is there.
    changed = [look.change, said.change, *(one.change for one in controls)]
    gr.on(changed, show_progress="hidden", **shown)
    picture.select(page.choose, [look, regions], [region, view], show_progress="hidden")


def _teach_tab(page: Page, look: gr.State, lessons: gr.State) -> None:
    drawn, number = gr.State([]), gr.State(0)
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            gr.Markdown(DRAW)
            files = gr.File(
                label="Photographs of it", file_count="multiple", elem_id="files", height=140
            )  # fmt: skip
            with gr.Row():
                back = gr.Button("Previous", size="sm", min_width=80)
                forth = gr.Button("Next", size="sm", min_width=80)
            count = gr.Markdown(elem_id="count")
            canvas = image_annotator(
                label="Drag to draw a box", sources=[], disable_edit_boxes=True, boxes_alpha=0.2,
                box_min_size=4, show_download_button=False, show_share_button=False,
                show_clear_button=False, show_remove_button=True, elem_id="canvas",
            )  # fmt: skip
        with gr.Column(min_width=320):
            name = gr.Textbox(label="Its name", max_lines=1, elem_id="name")
            others = gr.File(
                label="Photographs to find it in", file_count="multiple", elem_id="others",
                height=140,
            )  # fmt: skip
            button = gr.Button("Learn", variant="primary", elem_id="learn")
            said = gr.Markdown(elem_id="learnt")
            gallery = gr.Gallery(show_label=False, format="jpeg", columns=2, elem_id="gallery")
            unread = gr.Markdown()
            download = gr.DownloadButton(
                "Download the detector (.zip)", interactive=False, elem_id="download"
            )  # fmt: skip
    album = [drawn, number, canvas]
    files.change(page.collect, [files, drawn], [*album, count])
    for arrow, step in ((back, -1), (forth, 1)):
        arrow.click(partial(page.turn, step=step), album, [*album, count], show_progress="hidden")
    canvas.change(page.count, album, [drawn, count], show_progress="hidden")
    taught = [name, *album, others, look, lessons]
    button.click(page.learn, taught, [lessons, look, download, said, gallery])
    others.change(page.find, [others, lessons], [gallery, unread])


def launch(blocks: gr.Blocks, host: str, port: int, *, browser: bool, block: bool = True) -> str:
    """Serve the page until Ctrl-C; with `block` False return its address at once."""
    _, address, _ = blocks.launch(
        server_name=host, server_port=port, inbrowser=browser, share=False, quiet=True,
        prevent_thread_lock=True, max_file_size=MAX_BYTES, footer_links=[], ssr_mode=False,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        run_history=False, enable_monitoring=False, pwa=False, mcp_server=False,
    )  # fmt: skip
    if block:
        blocks.block_thread()
    return address


def _bold(sentence: object, path: str = "") -> str:
    """A sentence in bold; uploads go by their names, not by where gradio has put them."""
    text = str(sentence).replace(path, Path(path).name) if path else str(sentence)
    return f"**{text}**"


def _with_boxes(drawn: Sequence[Drawn], number: int, canvas: Any) -> list[Drawn]:
    """The photographs, that with this number with the boxes on the canvas."""
    return [
        one.with_shown_boxes(canvas["boxes"]) if canvas and at == number else one
        for at, one in enumerate(drawn)
    ]


def _canvas(drawn: Sequence[Drawn], number: int) -> tuple[Any, str]:
    if not drawn:
        return None, ""
    chosen = drawn[number]
    value = {"image": chosen.shown, "boxes": chosen.shown_boxes}
    return value, _sentence(drawn, number)


def _sentence(drawn: Sequence[Drawn], number: int) -> str:
    if not drawn:
        return ""
    chosen = drawn[number]
    here = (
        f"{number + 1} of {len(drawn)}, {chosen.path.name}: {pluralise(len(chosen.boxes), 'box')}"
    )
    return f"{here}. {what_is_missing(drawn) or 'Enough to learn from; more are better'}."
