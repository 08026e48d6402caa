"""The Label Studio backend, through label-studio-ml's own application, against a Label Studio of
two pages: an export and pictures, for those who have the token.
"""

import io
import json
import shutil
import time
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_detector import save_detector

with warnings.catch_warnings():  # those of Flask 1.1, which label-studio-ml pins
    warnings.simplefilter("ignore")
    pytest.importorskip("label_studio_ml.api")
    from detector.labelling import label_studio, label_studio_server
    from detector.labelling.label_studio import InceptionBackend, Machine, loaded
    from detector.labelling.label_studio_client import LabelStudio
    from detector.labelling.label_studio_regions import boxes_of, regions_of, results_of, setup_of
    from detector.labelling.label_studio_server import Jobs, learn, make_app

from detector import Detections, load_detector, read_image
from detector.cli.main import main
from detector.errors import DatasetError, DetectorError, ImageError, SettingsError
from detector.training.heads import fit_classes
from detector.training.heads.class_report import ClassReport
from detector.training.heads.fit_classes import FitReport

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CONFIG = """<View><Image name="picture" value="$photo"/>
<RectangleLabels name="box" toName="picture">
<Label value="Cat"/><Label value="animal" predicted_values="dog, cow"/><Label value="mug"/>
</RectangleLabels></View>"""
MACHINE = Machine("cpu", 1)
PIXELS = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)


def png_of(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def region(label: str, x: float, y: float, width: float, height: float, **more: Any) -> Any:
    value = {"x": x, "y": y, "width": width, "height": height, "rectanglelabels": [label], **more}
    return {"from_name": "box", "to_name": "picture", "type": "rectanglelabels", "value": value}


def task(number: int, *regions: Any, photo: str = "/data/upload/1/a.png") -> dict[str, Any]:
    return {"id": number, "data": {"photo": photo}, "annotations": [{"result": [*regions]}]}


MUGS = [task(number, *[region("mug", 10, 20, 50, 50)] * 3) for number in (1, 2)]


class Pages(BaseHTTPRequestHandler):
    """The pages of a Label Studio; each needs the token."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        pages, token = self.server.pages, self.headers["Authorization"]
        if token not in ("Token secret", "Bearer fresh"):
            self.send_error(401)
        elif self.path not in pages:
            self.send_error(404)
        else:
            self._send(pages[self.path])

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        right = (self.path, sent) == ("/api/token/refresh/", {"refresh": "a.b.c"})
        self._send(b'{"access": "fresh"}' if right else b"{}")

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def studio() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.pages = {"/data/upload/1/a.png": png_of(PIXELS)}
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", pages=server.pages)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_detector(tmp_path_factory.mktemp("bundle"))


class Backend:
    """The application in a model folder, and what Label Studio sends to it."""

    def __init__(self, folder: Path, bundle: Path, url: str, schema: str = CONFIG) -> None:
        self.folder, self.url, self.schema = folder, url, schema
        self.client = make_app(folder, bundle, MACHINE).test_client()

    def setup(self) -> Any:
        sent = {"project": "1.5", "schema": self.schema, "hostname": self.url,
                "access_token": "secret", "extra_params": None}  # fmt: skip
        return self.client.post("/setup", json=sent)

    def predict(self, *tasks: Any) -> Any:
        sent = {"tasks": tasks, "project": "1.5", "label_config": self.schema,
                "params": {"login": "", "password": "", "context": None}}  # fmt: skip
        return self.client.post("/predict", json=sent).json["results"]

    def event(self, action: str, annotated: int = 0) -> Any:
        project = {"id": 1, "label_config": self.schema, "num_tasks_with_annotations": annotated}
        return self.client.post("/webhook", json={"action": action, "project": project})

    def wait(self) -> None:
        while self.client.get("/is_training?project=1.5").json["is_training"]:
            time.sleep(0.05)


def put_learnt(folder: Path, bundle: Path, job: int) -> Path:
    """A learning that has ended, with a class of `dog` less, so that it is seen to be in use."""
    save_detector(folder / str(job) / "bundle", ("cat", f"class of {job}"))
    result = {"weights": label_studio.fingerprint(bundle), "learnt": [], "warnings": []}
    (folder / str(job) / "job_result.json").write_text(json.dumps(result))
    return folder / str(job)


def fake_fit(images: Any, boxes: Any, labels: Any, out: Path, **given: Any) -> FitReport:
    save_detector(out, ("cat", "dog", *given["add"]))
    reports = [ClassReport(name, 6, 2, 1.0, None, 0.4, ("look out",)) for name in given["add"]]
    return FitReport(out, tuple(reports))


class AtOnce:
    """In place of a process: the learning, in this one."""

    def __init__(self, target: Any, args: Any, daemon: bool) -> None:
        assert daemon
        self.run, self.exitcode = lambda: target(*args), 0

    def start(self) -> None:
        self.run()

    def join(self) -> None:
        pass


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    spawning = SimpleNamespace(Process=AtOnce)
    monkeypatch.setattr(label_studio_server, "get_context", lambda _: spawning)
    monkeypatch.setattr(label_studio_server.signal, "signal", lambda *_: None)
    monkeypatch.setattr(fit_classes, "fit", fake_fit)


def test_it_listens_on_this_machine_only_unless_told(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    served: list[Any] = []
    app = type(make_app(tmp_path, bundle, MACHINE))
    monkeypatch.setattr(app, "run", lambda self, *address: served.append(address))
    for more in ([], ["--host", "0.0.0.0", "--port", "9000"]):
        arguments = ["label-studio", "--weights", str(bundle), "--model-dir", str(tmp_path), *more]
        with pytest.raises(SystemExit):
            main([*arguments, "--threads", "1"])
    assert served == [("127.0.0.1", 9090), ("0.0.0.0", 9000)]
    assert "Label Studio connects to http://127.0.0.1:9090" in capsys.readouterr().err


def test_the_command_ends_where_the_weights_are_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        main(["label-studio", "--weights", str(tmp_path), "--model-dir", str(tmp_path / "learnt")])
    assert "no bundle.json in it; give the folder of a saved bundle" in capsys.readouterr().err
    assert not (tmp_path / "learnt").exists()


def test_it_is_healthy(tmp_path: Path, bundle: Path):
    found = Backend(tmp_path, bundle, "").client.get("/health").json
    assert (found["status"], found["model_dir"]) == ("UP", str(tmp_path))


def test_boxes_are_in_percent_of_the_upright_picture():
    found = Detections([[20, 6, 60, 30], [0, 0, 8, 6]], [0.9, 0.5], [1, 0], classes=("owl", "cat"))
    (row,) = results_of(found, (60, 80), setup_of(InceptionBackend(CONFIG).parsed_label_config))
    assert row["value"] == {
        "x": 25, "y": 10, "width": 50, "height": 40, "rotation": 0, "rectanglelabels": ["Cat"],
    }  # fmt: skip
    assert (row["from_name"], row["to_name"], row["type"]) == ("box", "picture", "rectanglelabels")
    assert (row["original_width"], row["original_height"]) == (80, 60)


def test_drawn_boxes_come_back_as_pixels():
    """A rectangle turned by a right angle around its upper left corner (40, 30) lies left of it."""
    drawn = [
        region("Cat", 25, 10, 50, 40), region("mug", 50, 50, 25, 10, rotation=90),
        region("mug", 90, 90, 40, 40), region("mug", 10, 10, 1, 5), region("mug", None, 1, 1, 1),
    ]  # fmt: skip
    boxes, labels = boxes_of(drawn, (60, 80))
    assert labels == ["Cat", "mug", "mug"]
    assert boxes.tolist() == pytest.approx(
        np.array([[20, 6, 60, 30], [34, 30, 40, 50], [72, 54, 80, 60]])
    )


def test_the_last_annotation_counts_that_was_not_skipped():
    first, other = region("mug", 0, 0, 9, 9), region("mug", 0, 0, 5, 5)
    given = {"annotations": [{"result": [first]}, {"result": [other], "was_cancelled": True}]}
    assert regions_of(given, "box") == [first]
    assert regions_of({"annotations": [{"result": [{**first, "from_name": "else"}]}]}, "box") == []
    assert regions_of({"annotations": []}, "box") is None


def test_predictions_are_the_detectors(tmp_path: Path, bundle: Path, studio: Any):
    backend = Backend(tmp_path, bundle, studio.url)
    assert backend.setup().json == {"model_version": "INITIAL"}
    (found,) = backend.predict(task(7))
    expected = load_detector(bundle, threads=1)(PIXELS)
    assert len(found["result"]) == len(expected) > 1
    labels = [row["value"]["rectanglelabels"] for row in found["result"]]
    assert labels == [[["Cat"], ["animal"]][label] for label in expected.labels]
    assert [row["score"] for row in found["result"]] == pytest.approx(expected.scores)
    assert found["score"] == pytest.approx(float(expected.scores.mean()))
    assert found["model_version"] == "INITIAL"


def test_a_picture_that_cannot_be_had_leaves_the_others(
    tmp_path: Path, bundle: Path, studio: Any, capsys: pytest.CaptureFixture[str]
):
    studio.pages["/data/upload/1/b.png"] = b"no picture"
    backend = Backend(tmp_path, bundle, studio.url)
    backend.setup()
    photos = ("/data/c.png", "/data/upload/1/b.png", "ftp://x/a.png", "upload/1/a.png")
    *lost, good = backend.predict(*(task(n, photo=photo) for n, photo in enumerate(photos)))
    assert lost == [[], [], []]
    assert good["result"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert said[0].endswith("c.png: the image of task 0 cannot be fetched (HTTP 404)")
    assert "error: task 1: " in said[1]
    assert "task 2: 'ftp://x/a.png' is no address of an image; upload it" in said[2]


@pytest.mark.parametrize(
    "schema",
    [
        "<View><Image name='i' value='$i'/><PolygonLabels name='p' toName='i'/></View>",
        "<View><Text name='t' value='$t'/><RectangleLabels name='r' toName='t'/></View>",
        "<View/>",
    ],
)
def test_a_setup_without_rectangles_is_a_sentence(tmp_path: Path, bundle: Path, schema: str):
    answer = Backend(tmp_path, bundle, "", schema).setup()
    assert answer.status_code == 500
    assert "no RectangleLabels for an Image; choose the template" in answer.json["detail"]


@pytest.mark.parametrize(
    ("url", "token", "said"),
    [
        ("STUDIO", "wrong", "needs a token that is allowed to read it"),
        ("http://127.0.0.1:9", "secret", r"cannot be fetched \(ConnectionError\); is it running"),
        ("", "", "Label Studio's address is unknown; give --url"),
    ],
)
def test_a_label_studio_that_does_not_answer_is_a_sentence(
    studio: Any, url: str, token: str, said: str
):
    server = LabelStudio(studio.url if url == "STUDIO" else url, token)
    with pytest.raises(DatasetError, match=said):
        server.annotated_tasks(1)


def test_a_label_studio_that_hangs_is_given_up(studio: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("detector.labelling.label_studio_client.TIMEOUTS", (0.05, 0.05))
    monkeypatch.setattr(Pages, "do_GET", lambda self: time.sleep(0.5))
    with pytest.raises(ImageError, match="for the image of task 3; try again"):
        LabelStudio(studio.url, "secret").picture(task(3), "photo")


def test_a_personal_token_is_exchanged_and_goes_to_its_server_only(studio: Any):
    assert LabelStudio(studio.url, "a.b.c").picture(task(1), "photo") == png_of(PIXELS)
    other = studio.url.replace("127.0.0.1", "localhost")
    address = f"{studio.url}/data/upload/1/a.png"
    with pytest.raises(ImageError, match="needs a token"):
        LabelStudio(other, "a.b.c").picture(task(1, photo=address), "photo")


def test_start_training_learns_and_the_next_setup_uses_it(
    tmp_path: Path, bundle: Path, studio: Any, at_once: None,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    """Seven boxes of `mug` in three pictures, two pictures without, one not annotated. A label
    that stands for a class of the detector goes by that class's name.
    """
    mixed = task(3, region("mug", 0, 0, 9, 9), region("animal", 50, 0, 50, 50))
    cats = task(4, region("Cat", 0, 0, 50, 50))
    tasks = [*MUGS, mixed, cats, task(5), {**task(6), "annotations": []}]
    studio.pages["/api/projects/1/export?exportType=JSON"] = json.dumps(tasks).encode()
    given: list[Any] = []

    def fit(images: Any, boxes: Any, labels: Any, out: Path, **more: Any) -> FitReport:
        pictures = [*images, *more["background"]]
        given.extend([[read_image(path) for path in pictures], boxes, labels, more])
        return fake_fit(images, boxes, labels, out, **more)

    monkeypatch.setattr(fit_classes, "fit", fit)
    backend = Backend(tmp_path, bundle, studio.url)
    backend.setup()
    assert backend.event("START_TRAINING").status_code == 201
    backend.wait()
    images, boxes, labels, more = given
    assert [(image == PIXELS).all() for image in images] == [True] * 5
    assert [len(one) for one in boxes] == [3, 3, 2]
    assert labels == (["mug"] * 3, ["mug"] * 3, ["mug", "dog"])
    assert (more["add"], more["bundle"], len(more["background"])) == (["mug"], bundle, 2)
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["bundle", "job_result.json"]
    said = capsys.readouterr().err
    assert f"learnt in {folder}:\nmug: 6 boxes in 2 images; best threshold 0.4\nlook out" in said
    assert backend.setup().json == {"model_version": folder.name}
    (found,) = backend.predict(task(7))
    labels = {row["value"]["rectanglelabels"][0] for row in found["result"]}
    assert "mug" in labels
    assert found["model_version"] == folder.name


def test_the_older_request_for_training_brings_its_tasks(
    tmp_path: Path, bundle: Path, studio: Any, at_once: None
):
    backend = Backend(tmp_path, bundle, studio.url)
    backend.setup()
    sent = {"annotations": MUGS, "project": "1.5", "label_config": CONFIG,
            "params": {"login": "", "password": ""}}  # fmt: skip
    assert backend.client.post("/train", json=sent).status_code == 201
    backend.wait()
    assert backend.setup().json["model_version"] != "INITIAL"


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        (MUGS[:1], "error: 3 boxes of mug: nothing was learnt; 5 boxes of a label are needed"),
        ([], "error: 0 boxes of mug: nothing was learnt"),
        ("no list", "no list of tasks; is this Label Studio's address?"),
    ],
)
def test_too_little_to_learn_from_leaves_nothing_behind(
    tmp_path: Path, bundle: Path, studio: Any, at_once: None, tasks: Any, said: str,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    studio.pages["/api/projects/1/export?exportType=JSON"] = json.dumps(tasks).encode()
    backend = Backend(tmp_path, bundle, studio.url)
    backend.setup()
    backend.event("START_TRAINING")
    backend.wait()
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert backend.setup().json == {"model_version": "INITIAL"}


def test_a_detector_that_has_every_label_learns_nothing(bundle: Path):
    schema = CONFIG.replace('<Label value="mug"/>', "")
    backend = InceptionBackend(schema, weights=bundle, machine=MACHINE)
    with pytest.raises(DetectorError, match="has every label of the setup"):
        backend.fit((), data={"project": {"id": 1}})


def test_an_event_without_a_project_is_a_sentence(bundle: Path):
    backend = InceptionBackend(CONFIG, weights=bundle, machine=MACHINE)
    with pytest.raises(SettingsError, match="let this backend's webhook send its payload"):
        backend.fit((), data={})


def test_annotations_learn_again_once_there_are_a_quarter_more(tmp_path: Path, bundle: Path):
    jobs = Jobs(str(tmp_path), bundle, MACHINE, None)

    def due(event: str, count: int) -> bool:
        return jobs._is_due(event, {"project": {"num_tasks_with_annotations": count}})

    assert [due("ANNOTATION_CREATED", count) for count in (8, 9, 10, 11, 12, 13)] == [
        True, False, True, False, False, True,
    ]  # fmt: skip
    assert due("START_TRAINING", 13)
    assert not due("PROJECT_UPDATED", 99)


def test_of_events_that_come_while_one_learns_the_last_waits(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    jobs, seen = Jobs(str(tmp_path), bundle, MACHINE, None), []

    class Learning(AtOnce):
        def start(self) -> None:
            seen.append(self.job)
            if len(seen) == 1:
                for job in ("2", "3", "4"):
                    jobs.run_job(InceptionBackend, ("START_TRAINING", {}, job))

        def __init__(self, target: Any, args: Any, daemon: bool) -> None:
            super().__init__(target, args, daemon)
            self.job = args[4]

    monkeypatch.setattr(
        label_studio_server, "get_context", lambda _: SimpleNamespace(Process=Learning)
    )
    jobs.run_job(InceptionBackend, ("START_TRAINING", {}, "1"))
    while jobs.thread is not None:
        time.sleep(0.01)
    assert seen == ["1", "4"]


def test_the_newest_detector_that_is_whole_is_used(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
):
    """Of 5 the weights are damaged, of 4 the result was cut off, 3 was killed, 2 is of another
    detector: 1 it is.
    """
    put_learnt(tmp_path, bundle, 1)
    other = put_learnt(tmp_path, bundle, 2) / "job_result.json"
    other.write_text(json.dumps({**json.loads(other.read_text()), "weights": "another"}))
    (put_learnt(tmp_path, bundle, 3) / "job_result.json").unlink()
    (put_learnt(tmp_path, bundle, 4) / "job_result.json").write_text('{"weights": "')
    (file,) = (put_learnt(tmp_path, bundle, 5) / "bundle").glob("*.safetensors")
    file.write_bytes(b"x" + file.read_bytes()[1:])
    backend = Backend(tmp_path, bundle, "")
    assert [backend.setup().json["model_version"] for _ in range(2)] == ["1", "1"]
    said = capsys.readouterr().err
    assert said.count("is damaged: the detector before it is used; learn again") == 2
    assert f"{tmp_path / '5'} is damaged" in said
    shutil.rmtree(tmp_path / "1")
    assert backend.setup().json["model_version"] == "INITIAL"


def test_a_server_that_starts_again_predicts_before_any_setup(
    tmp_path: Path, bundle: Path, studio: Any
):
    put_learnt(tmp_path, bundle, 3)
    app = make_app(tmp_path, bundle, MACHINE, LabelStudio(studio.url, "secret"))
    sent = {"tasks": [task(1)], "label_config": CONFIG, "project": "1.5"}
    answer = app.test_client().post("/predict", json=sent).json
    assert answer["model_version"] == "3"
    assert answer["results"][0]["result"]


def test_a_process_of_its_own_learns(
    tmp_path: Path, bundle: Path, studio: Any, capfd: pytest.CaptureFixture[str]
):
    """Red squares on noise; what the detector knew before stays."""
    rng = np.random.default_rng(1)
    tasks = []
    for number in range(1, 5):
        pixels = rng.integers(0, 255, (120, 160, 3), np.uint8)
        pixels[30:90, 20:70] = pixels[40:100, 90:150] = (220, 20, 20)
        studio.pages[f"/data/upload/1/{number}.png"] = png_of(pixels)
        squares = [region("mug", 12.5, 25, 31.25, 50), region("mug", 56.25, 33.33, 37.5, 50)]
        tasks.append(task(number, *squares, photo=f"/data/upload/1/{number}.png"))
    studio.pages["/api/projects/1/export?exportType=JSON"] = json.dumps(tasks).encode()
    backend = Backend(tmp_path, bundle, studio.url)
    backend.setup()
    backend.event("ANNOTATION_CREATED", 4)
    backend.wait()
    said = capfd.readouterr().err
    (folder,) = tmp_path.iterdir()
    assert f"learnt in {folder}:\nmug: 8 boxes in 4 images" in said
    assert backend.setup().json == {"model_version": folder.name}
    assert load_detector(folder / "bundle", threads=1).classes == ("cat", "dog", "mug")
    assert load_detector(bundle, threads=1).classes == ("cat", "dog")
    assert backend.predict(task(9))[0]["model_version"] == folder.name


def test_a_full_disk_leaves_no_half_of_a_folder(
    tmp_path: Path, bundle: Path, studio: Any, at_once: None, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    def fit(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fit_classes, "fit", fit)
    given = {"weights": bundle, "machine": MACHINE, "server": LabelStudio(studio.url, "secret")}
    data = {"annotations": MUGS, "label_config": CONFIG}
    learn(InceptionBackend, given, "START_TRAINING", data, "7", str(tmp_path / "7"))
    assert "No space left on device; make room" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_process_that_learns_may_die(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setattr(label_studio_server, "learn", die)
    jobs = Jobs(str(tmp_path), bundle, MACHINE, None)
    jobs.run_job(InceptionBackend, ("START_TRAINING", {}, "1"))
    while jobs.thread is not None:
        time.sleep(0.05)
    assert "warning: learning ended with 3; the detector stays" in capsys.readouterr().err


def die(*_: Any) -> None:
    import os

    os._exit(3)


def test_a_detector_is_loaded_once(bundle: Path):
    assert loaded(str(bundle), MACHINE) is loaded(str(bundle), MACHINE)
