"""The verdict on detections: the table, the JSON, the curves, the page, the comparison."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from detector.cli.evaluating.running import Seen
from detector.cli.evaluating.settings import EvaluateSettings
from detector.datasets import Dataset
from detector.evaluation import Comparison, Evaluation, Interval, Protocol, compare, evaluate
from detector.evaluation.coverage import coverage
from detector.evaluation.diagnosis.diagnosis import Diagnosis, diagnose
from detector.evaluation.protocols.caps import cap_per_class
from detector.evaluation.protocols.coco_engines import MAX_DETS
from detector.evaluation.report.page import Report, report_html
from detector.evaluation.report.pictures import worst_pictures
from detector.files import write_atomically
from detector.progress.messages import escape_controls, pluralise, say
from detector.structures import Detections

# The files that an evaluation leaves, the last three with --report.
WRITTEN = (
    "evaluation.json", "precision_recall.png", "diagnosis.json", "report.html", "worst_*.jpg",
)  # fmt: skip
# The worst images that have a file, from which a model card takes some.
PICTURES = 8


@dataclass(frozen=True, eq=False)
class Verdict:
    """A data set, the rules by which detections of it are judged, and the folder of the results.

    command  the command line, which the results name
    """

    dataset: Dataset
    protocol: Protocol
    settings: EvaluateSettings
    out: Path
    command: str

    def report(
        self,
        results: Mapping[str, Detections],
        judged: Mapping[str, Any],
        extras: Mapping[str, float],
        html: bool,
        seen: Seen | None,
    ) -> None:
        """Print and write the verdict with `extras` beside it.

        judged  the source of the detections: which weights, or which file
        html    with the diagnosis as diagnosis.json and, with curves and pictures, as one page
        seen    the regions of a bundle that was run
        """
        dataset, chosen, out, most = self.dataset, self.settings, self.out, self.settings.max_dets
        results = self._counted(results)
        evaluation = evaluate(
            dataset, results, self.protocol, chosen.coco_engine, most,
            rounds=chosen.rounds, seed=chosen.seed,
        )  # fmt: skip
        if beyond := evaluation.extras.get("images_beyond_max_dets"):
            say(
                f"{beyond} of {pluralise(len(dataset), 'image')}: more than {most} objects or"
                f" detections of a class, of which the {most} best detections count"
                + ("; --set max_dets=NUMBER sets another" if most == MAX_DETS else "")
            )
        evaluation = replace(evaluation, extras={**evaluation.extras, **extras})
        about = {"data": dataset.name, "images": len(dataset), **judged, "command": self.command}
        out.mkdir(parents=True, exist_ok=True)
        for name in WRITTEN:  # of an earlier run, which may be about something else
            for old in out.glob(name):
                old.unlink(missing_ok=True)
        write_atomically(out / "evaluation.json", evaluation.to_json(about))
        evaluation.plot(out / "precision_recall.png")
        show(evaluation)
        print(f"{out}/: evaluation.json, precision_recall.png")
        if html:
            diagnosis = diagnose(dataset, results, chosen.operating, seen and seen.evidence)
            page = report_html(
                Report(
                    dataset, evaluation, diagnosis, self.command,
                    seen and coverage(dataset.subset(seen.regions), seen.regions),
                    judged=" ".join(next(iter(judged.items()))),  # the weights, if there are some
                    date=date.today().isoformat(),
                )
            )  # fmt: skip
            worst = self._write_pictures(diagnosis)
            write_atomically(out / "diagnosis.json", diagnosis.to_json({"worst_images": worst}))
            write_atomically(out / "report.html", page)
            print(f"report {out / 'report.html'}")

    def _write_pictures(self, diagnosis: Diagnosis) -> list[dict[str, Any]]:
        """Write the worst images with their errors drawn; returns their captions."""
        worst = []
        for place, one in enumerate(worst_pictures(self.dataset, diagnosis, PICTURES), 1):
            if one.jpeg:
                file = f"worst_{place}.jpg"
                write_atomically(self.out / file, one.jpeg)
                errors = {"missed": one.missed, "false": one.alarms}
                worst.append({"image": one.name, **errors, "picture": file})
        return worst

    def compare(self, first: Mapping[str, Detections], second: Mapping[str, Detections]) -> None:
        """Print and write the difference of two sets of detections, paired over the images."""
        chosen, rounds = self.settings, self.settings.rounds
        pair = self._counted(first), self._counted(second)
        result = compare(self.dataset, *pair, self.protocol, chosen.seed, rounds)
        for name, interval in (("first", result.first), ("second", result.second)):
            print(f"{name:10s} mAP {percent(interval.estimate)}{bounds(interval)}")
        self._write_difference(result)

    def second_opinion(
        self,
        before: Mapping[str, Detections],
        alone: Mapping[str, Detections],
        after: Mapping[str, Detections],
    ) -> None:
        """Print the mAP of another detector's boxes with its scores, with ours and with the fused
        ones and, where the protocol has a bootstrap, the paired difference of the last and first.
        """
        chosen, sides = self.settings, list(map(self._counted, (before, alone, after)))
        for name, results in zip(("its scores", "ours", "fused"), sides, strict=True):
            result = evaluate(
                self.dataset, results, self.protocol, chosen.coco_engine, chosen.max_dets,
                rounds=chosen.rounds, seed=chosen.seed,
            )  # fmt: skip
            print(f"{name:10s} mAP {percent(result.mean_ap)}{bounds(result.interval)}")
        if self.protocol != "coco" and chosen.rounds:
            self._write_difference(
                compare(self.dataset, sides[0], sides[2], self.protocol, chosen.seed, chosen.rounds)
            )

    def _write_difference(self, result: Comparison) -> None:
        rounds = self.settings.rounds
        self.out.mkdir(parents=True, exist_ok=True)
        write_atomically(self.out / "comparison.json", result.to_json())
        print(f"difference     {percent(result.difference.estimate)}{bounds(result.difference)}")
        print(f"the second is not better in {percent(result.p_worse)} % of {rounds} rounds")
        print(f"{self.out}/: comparison.json")

    # A file may hold detections of the whole set where only a part is judged (images=N).
    def _counted(self, results: Mapping[str, Detections]) -> dict[str, Detections]:
        wanted = {sample.image_id for sample in self.dataset.samples}
        found = {name: one for name, one in results.items() if name in wanted}
        most = self.settings.per_class
        return found if most is None else cap_per_class(found, most)


def show(evaluation: Evaluation) -> None:
    table = Table("class", box=None, header_style="bold")
    for name in ("AP", "objects", "detections", "recall"):
        table.add_column(name, justify="right")
    for one in evaluation.per_class:
        ap, recall = (percent(one.ap), percent(one.best_recall)) if one.positives else ("-", "-")
        table.add_row(
            escape_controls(one.name), ap, str(one.positives), str(one.detections), recall
        )
    # Names from files may look like rich's markup.
    console = Console(markup=False, highlight=False)
    console.print(table)
    for name, value in evaluation.extras.items():
        counts = isinstance(value, int) or name == "proposals_per_image"
        print(f"{name.replace('_', ' ')} {f'{value:.10g}' if counts else percent(value)}")
    print(f"mAP {percent(evaluation.mean_ap)} ({evaluation.protocol}){bounds(evaluation.interval)}")


def percent(share: float) -> str:
    # NaN is the one number that differs from itself.
    return "-" if share != share else f"{100 * share:.1f}"


def bounds(interval: Interval | None) -> str:
    if interval is None:
        return ""
    level = f"{100 * interval.confidence:.0f} %"
    return f"  {level} interval {percent(interval.low)} to {percent(interval.high)}"
