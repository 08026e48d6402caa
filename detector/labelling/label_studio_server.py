"""The server of the Label Studio backend: label-studio-ml's own, with a queue for learning.

label-studio-ml starts a process at each event, beside those that run already. Here at most one
learns; of the events that come meanwhile the last waits. A process that dies leaves a folder
without a result, which is never used.
"""

import json
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from label_studio_ml import api
from label_studio_ml.model import LabelStudioMLManager, SimpleJobManager

from detector.errors import DetectorError
from detector.files import write_atomically
from detector.labelling.label_studio import (
    BUNDLE,
    EVENTS,
    InceptionBackend,
    Machine,
    fingerprint,
    loaded,
)
from detector.labelling.label_studio_client import LabelStudio
from detector.progress.messages import say, say_error

GROWTH = 1.25
"""After this many times more annotated tasks than at the last time an annotation event learns
again; the button Start Training always does.
"""


def make_app(
    model_dir: Path, weights: Path, machine: Machine = Machine(), server: LabelStudio | None = None
) -> Any:
    """The Flask application; label-studio-ml has one for each process.

    model_dir  folder of what is learnt
    weights    bundle that every learning starts from
    server     None is the one that connects
    """
    api._manager = Manager()
    return api.init_app(
        InceptionBackend, model_dir=str(model_dir), weights=weights, machine=machine, server=server
    )


class Jobs(SimpleJobManager):  # type: ignore[misc]  # untyped where it is installed
    """Learning in one process at a time, each in a new folder `model_dir/JOB`."""

    def __init__(
        self, model_dir: str, weights: Path, machine: Machine, server: LabelStudio | None
    ) -> None:
        super().__init__(model_dir)
        self.weights, self.machine, self.server = weights, machine, server
        self.lock = Lock()
        self.thread: Thread | None = None
        self.waiting: tuple[Any, ...] | None = None
        self.tasks_at_last = 0
        self.damaged: set[str] = set()

    def iter_finished_jobs(self) -> Iterator[str]:
        """Those whose detector can be used, the newest first."""
        return filter(self._usable, map(str, super().iter_finished_jobs()))

    def _usable(self, job: str) -> bool:
        folder = Path(self._job_dir(job))
        try:
            result = json.loads((folder / self.JOB_RESULT).read_text(encoding="utf-8"))
            if result["weights"] != fingerprint(self.weights):  # learnt from another detector
                return False
            loaded(str(folder / BUNDLE), self.machine)
        except FileNotFoundError:  # still learning, or killed
            return False
        except (DetectorError, OSError, ValueError, KeyError, TypeError) as error:
            if job not in self.damaged:
                say_error(error)
                say(f"{folder} is damaged: the detector before it is used; learn again")
            self.damaged.add(job)
            return False
        return True

    def _get_result_from_job_id(self, job: str) -> dict[str, Any]:
        result: dict[str, Any] = super()._get_result_from_job_id(job)
        return {**result, "folder": str(Path(self._job_dir(job)) / BUNDLE)}

    def run_job(self, model_class: type[InceptionBackend], args: Sequence[Any]) -> None:
        event, data, job = args
        with self.lock:
            if not self._is_due(event, data):
                return
            self.waiting = (model_class, event, data, job)
            if self.thread is None:
                self.thread = Thread(target=self._work, name="learning", daemon=True)
                self.thread.start()

    def _is_due(self, event: str, data: Mapping[str, Any]) -> bool:
        tasks = (data.get("project") or {}).get("num_tasks_with_annotations") or 0
        due = event == EVENTS[0] or (event in EVENTS and tasks >= GROWTH * self.tasks_at_last)
        if due:
            self.tasks_at_last = tasks
        return due

    def _work(self) -> None:
        while True:
            with self.lock:
                if self.waiting is None:
                    self.thread = None
                    return
                (model_class, event, data, job), self.waiting = self.waiting, None
                given = {"weights": self.weights, "machine": self.machine, "server": self.server}
            # Spawned: a process forked from one with threads may wait for their locks for ever.
            learning = get_context("spawn").Process(
                target=learn, args=(model_class, given, event, data, job, self._job_dir(job)),
                daemon=True,
            )  # fmt: skip
            learning.start()
            learning.join()
            if learning.exitcode:
                say(f"warning: learning ended with {learning.exitcode}; the detector stays")
            else:
                self._usable(job)  # loaded now, since Label Studio waits three seconds for a setup


def learn(
    model_class: type[InceptionBackend], given: Mapping[str, Any], event: str,
    data: Mapping[str, Any], job: str, workdir: str,
) -> None:  # fmt: skip
    """Learn at an event, in a process of its own: a folder with a bundle and, last of all, the
    result; or a message, and no folder.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends it
    folder = Path(workdir)
    folder.mkdir(parents=True)
    label_config = data.get("label_config") or (data.get("project") or {}).get("label_config")
    try:
        model = model_class(label_config, **given)
        result = model.process_event(event, data, job, {"workdir": workdir})
        write_atomically(folder / Jobs.JOB_RESULT, json.dumps(result))
        for text in [f"learnt in {folder}:", *result["learnt"], *result["warnings"]]:
            say(text)
    except (DetectorError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        say_error(error)


class Manager(LabelStudioMLManager):  # type: ignore[misc]  # untyped where it is installed
    """label-studio-ml's models and jobs of one process, with `Jobs` in place of its own."""

    jobs: Jobs
    _last_version = 0

    @classmethod
    def initialize(cls, model_class: type[InceptionBackend], **given: Any) -> None:
        super().initialize(model_class, **given)
        cls._current_model = {}
        cls.jobs = Jobs(cls.model_dir, **cls.init_kwargs)

    @classmethod
    def get_job_manager(cls) -> Jobs:
        if cls._current_model:
            cls.jobs.server = cls._current_model.model.server
        return cls.jobs

    @classmethod
    def predict(
        cls, tasks: Any, project: Any = None, label_config: Any = None, *args: Any, **given: Any
    ) -> Any:
        if not cls._current_model:  # the server was started again; a setup comes later
            cls.fetch(project, label_config)
        return super().predict(tasks, project, label_config, *args, **given)

    @classmethod
    def train(cls, tasks: Any, project: Any = None, label_config: Any = None, **_: Any) -> None:
        """Learn from the tasks of a request of /train as at an event, without letting it wait."""
        data = {"annotations": list(tasks), "label_config": label_config}
        cls.webhook(EVENTS[0], data)

    @classmethod
    def is_training(cls, project: Any) -> dict[str, Any]:
        version = cls._current_model.model_version if cls._current_model else None
        return {"is_training": cls.jobs.thread is not None, "model_version": version}

    @classmethod
    def _generate_version(cls) -> str:
        # Seconds, as label-studio-ml's, but never the same twice.
        cls._last_version = max(int(time.time()), cls._last_version + 1)
        return str(cls._last_version)
