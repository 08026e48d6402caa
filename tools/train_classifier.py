"""Train a classifier on labelled images: patches, distortions, auxiliary heads, averaged weights.

    python tools/train_classifier.py --data ILSVRC --recipe googlenet --out runs/googlenet
    python tools/train_classifier.py --config configs/tiny_imagenet.yaml --out runs/tiny
    torchrun --nproc-per-node 8 tools/train_classifier.py --config ... --out ...

Run the same command again to resume. Ctrl-C finishes the step, saves, and exits; a second one exits
at once. The result, `classifier.safetensors`, is what train_regions.py --start takes.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.reporting.cli import run_tool

if TYPE_CHECKING:
    import torch

    from detector.datasets.labelled import LabelledImages
    from detector.reporting.cli import Stop
    from detector.training.classifier_settings import ClassifierTrainingConfig
    from detector.training.distributed import Group


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run: journal, checkpoints, weights.")],
    data: Annotated[
        Path | None, typer.Option(help="ILSVRC, a folder of class folders, or a tar file.")
    ] = None,
    val: Annotated[
        Path | None, typer.Option(help="Validation images. [the val of --data, if any]")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="googlenet, caffe, v3 or modern. [modern]")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML of settings (configs/).")] = None,
    data_root: Annotated[Path, typer.Option(help="Where relative data paths begin.")] = Path("."),
    start: Annotated[
        Path | None, typer.Option(help="Weights that the network starts from.")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Length of the training.")] = None,
    change: Annotated[
        list[str], typer.Option("--set", help="room.setting=value; may repeat.")
    ] = [],  # noqa: B006
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Threads that make batches.")] = 2,
    compiled: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    tensorboard: Annotated[bool, typer.Option(help="Curves in OUT/tensorboard, too.")] = False,
    quiet: Annotated[bool, typer.Option(help="No progress.")] = False,
) -> int:
    """Train a classifier; run again to resume."""
    from detector.build import load_config, validated
    from detector.hardware import choose_device
    from detector.reporting.cli import stop_gently
    from detector.training.classifier_settings import ClassifierTrainingConfig
    from detector.training.distributed import join_group
    from detector.training.recipes import with_recipe

    tree = load_config(config, change)
    given = {
        "recipe": recipe,
        "data.path": data and str(data.resolve()),
        "data.validate_on": val and str(val.resolve()),
        "network.weights": start and str(start.resolve()),
        "optimiser.epochs": epochs,
    }
    for name, value in given.items():
        if value is not None:
            _put(tree, name, value)
    settings: ClassifierTrainingConfig = validated(
        ClassifierTrainingConfig, with_recipe(tree), str(config or "options")
    )
    if settings.data.path is None:
        raise typer.BadParameter("give --data PATH, or a --config that names data.path")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and device == "auto":
        device = f"cuda:{os.environ['LOCAL_RANK']}" if _has_cuda() else "cpu"
    where = choose_device(device)
    train, judged = _images(settings, data_root)
    group = join_group(os.environ, where.type)
    try:
        with stop_gently("this step, then saving") as stop, ExitStack() as open_logs:
            return _train(
                settings, train, judged, out, data_root, where, threads, compiled, tensorboard,
                quiet or not group.is_first, group, stop, open_logs,
            )  # fmt: skip
    finally:
        group.close()


def _train(
    settings: ClassifierTrainingConfig,
    train: LabelledImages,
    judged: LabelledImages | None,
    out: Path,
    data_root: Path,
    device: torch.device,
    threads: int,
    compiled: bool,
    tensorboard: bool,
    quiet: bool,
    group: Group,
    stop: Stop,
    open_logs: ExitStack,
) -> int:
    import copy
    import math
    import time

    import cv2
    import torch

    from detector.errors import SettingsError
    from detector.hardware import choose_precision
    from detector.reporting.journal import Journal
    from detector.reporting.live import TrainingDisplay
    from detector.reporting.track import Tracker
    from detector.training.batches import prefetched
    from detector.training.classifier_loss import classifier_loss
    from detector.training.loss_scale import LossScale
    from detector.training.optimisers import build_optimiser, clip_gradients, rate_by_step
    from detector.training.patch_batches import UNREADABLE, PatchBatches
    from detector.training.state import TrainingState, freeze
    from detector.training.validation import validate

    cv2.setNumThreads(1)
    how, seen = settings.optimiser, settings.network
    if how.batch < group.world * how.accumulate:
        raise SettingsError(
            f"optimiser.batch: {how.batch} images do not go around {group.world} processes of"
            f" {how.accumulate} parts; raise it, or lower optimiser.accumulate"
        )
    out.mkdir(parents=True, exist_ok=True)
    steps_per_epoch = len(train) / how.batch
    last = math.ceil(how.epochs * steps_per_epoch)

    torch.manual_seed(how.seed)
    network = _network(settings, len(train.classes), data_root, device)
    freeze(network, []) if seen.frozen_norm else network.train()
    group.same_weights(network)
    run = TrainingState(
        network, how, _fingerprint(settings, train), build_optimiser(network, how),
        rate_by_step(how, last, steps_per_epoch),
    )  # fmt: skip
    scale = LossScale(how.precision == "float16")
    run.extra["progress"] = scale.state()
    first = run.resume(out)
    scale.load(run.extra["progress"])
    if group.is_first:
        _save_settings(out, settings)
        if not quiet:
            _report(train, judged, settings, first, last)
    journal = tracker = None
    if tensorboard and group.is_first:
        curves = Tracker(out / "tensorboard", resume_at=first)
        tracker = open_logs.enter_context(closing(curves))
    if group.is_first:
        entries = Journal(out / "journal.jsonl", resume_at=first)
        journal = open_logs.enter_context(closing(entries))
    precision = choose_precision(how.precision, device)
    forward: Any = torch.compile(network) if compiled else network
    make = PatchBatches(
        train, seen.input_size, how.batch, settings.patches, settings.augment, how.seed,
        group.rank, group.world,
    )  # fmt: skip

    def feed(crops: torch.Tensor) -> torch.Tensor:
        crops = crops.to(device, non_blocking=True, memory_format=torch.channels_last)
        return network.normalisation(crops * seen.pixel_scale)

    bad_in_a_row, reached = 0, first
    display = TrainingDisplay(last, first, how.batch, quiet, items="images", right="right")
    before = time.perf_counter()
    batches = prefetched(make, first, last, threads=threads, ahead=threads + 1)
    for step, batch in enumerate(batches, start=first):
        waited, reached = time.perf_counter() - before, step + 1
        torch.manual_seed((how.seed * 1_000_003 + step) * 1009 + group.rank)
        rate = run.set_rate(step)
        sums = torch.zeros(3, device=device)
        for crops, labels in zip(
            batch.crops.chunk(how.accumulate), batch.labels.chunk(how.accumulate), strict=True
        ):
            labels = labels.to(device)
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                output = forward(feed(crops))
            losses = classifier_loss(
                output, labels, label_smoothing=how.label_smoothing,
                auxiliary_weight=how.auxiliary_weight,
            )  # fmt: skip
            (losses.sum() * (scale.factor / how.batch)).backward()
            logits = output[0] if isinstance(output, tuple) else output
            right, readable = logits.argmax(1) == labels, labels != UNREADABLE
            sums += torch.stack([losses.sum(), right.sum(), readable.sum()]).detach()
        group.sum_gradients(run.trainable)
        scale.unscale(run.trainable)
        total, hits, count = group.sum(sums).tolist()
        loss, norm = total / max(count, 1), run.gradient_norm()
        if count and math.isfinite(loss) and math.isfinite(norm):
            clip_gradients(run.trainable, norm, how.clip)
            run.update(step)
            scale.succeeded()
            bad_in_a_row = 0
        elif count and math.isfinite(loss) and scale.overflowed():
            run.optimizer.zero_grad(set_to_none=True)  # float16 only: try again, scaled less
        else:
            bad_in_a_row += 1
            run.skip(step, make.replay(step), out, bad_in_a_row)
        now = time.perf_counter()
        if journal is not None:
            journal.write(
                step=step, epoch=round((step + 1) / steps_per_epoch, 3), loss=round(loss, 5),
                rate=rate, gradient=round(norm, 4), right=round(hits / max(count, 1), 4),
                images=int(count), seconds=round(now - before, 3), waited=round(waited, 3),
            )  # fmt: skip
        if tracker is not None:
            tracker.write(step, loss=loss, rate=rate, gradient=norm)
        display.step(step, loss, rate, hits / max(count, 1), waited)
        stopping = group.any(bool(stop), device)
        if stopping or step + 1 == last or (step + 1) % how.save_every == 0:
            if group.is_first:
                run.extra["progress"] = scale.state()
                run.save(out, step + 1)
            group.wait()
        if stopping:
            break
        turns = [int(s / steps_per_epoch / how.validate_every) for s in (step, step + 1)]
        if judged is not None and (turns[0] < turns[1] or step + 1 == last):
            average = copy.deepcopy(network).eval()
            average.load_state_dict(run.averaged())
            group.same_weights(average)  # running statistics are each process's own
            accuracy = validate(
                average, judged, seen.input_size, feed, group=group, threads=threads
            )
            display.say(f"validation: top-1 {accuracy.top1:.2%}, top-5 {accuracy.top5:.2%}")
            if journal is not None:
                journal.write(step=step, validation=accuracy._asdict())
            if tracker is not None:
                tracker.write(step, top1=accuracy.top1, top5=accuracy.top5)
        before = time.perf_counter()
    display.close()
    for _, message in sorted(make.broken.items()):
        typer.echo(f"left out: {message}", err=True)
    if group.is_first and reached == last:
        _write_classifier(out, settings, train, run.averaged(), network)
    return 1 if group.any(bool(make.broken), device) else 0  # which waits for the first to write


def _put(tree: dict[str, Any], name: str, value: object) -> None:
    *rooms, last = name.split(".")
    for room in rooms:
        tree = tree.setdefault(room, {})
    tree[last] = value


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _images(
    settings: ClassifierTrainingConfig, root: Path
) -> tuple[LabelledImages, LabelledImages | None]:
    """What to learn from, and what to judge by under the same classes."""
    from detector.datasets.detect_labelled import detect_layout, read_labelled

    assert settings.data.path is not None
    place = root / settings.data.path
    train = read_labelled(place, "train")
    if settings.data.images is not None:
        train = train.subset(settings.data.images)
    if settings.data.validate_on is not None:
        return train, read_labelled(root / settings.data.validate_on, "val").under(train.classes)
    if "val" in detect_layout(place).splits:
        return train, read_labelled(place, "val").under(train.classes)
    return train, None


def _network(
    settings: ClassifierTrainingConfig, outputs: int, root: Path, device: torch.device
) -> Any:
    import torch

    from detector.build import build_network
    from detector.errors import SettingsError
    from detector.models.classifier_file import first_convolution
    from detector.training.region_settings import MemberConfig

    seen = settings.network
    member = MemberConfig(
        architecture=seen.architecture, options=seen.options, input_size=seen.input_size,
        weights=seen.weights,
    )  # fmt: skip
    network: Any = build_network(member, outputs, root)
    if seen.pixel_scale != 1 and not network.normalisation.is_identity:
        raise SettingsError(
            f"network.pixel_scale: {seen.architecture} has an input normalisation of its own; use 1"
        )
    if seen.weights is not None and seen.pixel_scale != 1:
        # Files hold weights for crops as they are; saving multiplies by the scale again.
        with torch.no_grad():
            network.get_parameter(f"{first_convolution(network)}.weight").div_(seen.pixel_scale)
    return network.to(device).to(memory_format=torch.channels_last)


def _fingerprint(settings: ClassifierTrainingConfig, train: LabelledImages) -> str:
    """Of all that decides the weights: settings, and which images there are; not where they lie."""
    import hashlib

    from detector.training.checkpoint import fingerprint_of

    reporting = {"save_every", "validate_every", "max_bad_steps"}
    chosen = settings.model_dump(exclude={"data": True, "optimiser": reporting})
    listed = hashlib.sha256("\n".join((*train.classes, *train.files)).encode()).hexdigest()
    return fingerprint_of({**chosen, "images": listed})


def _report(
    train: LabelledImages,
    judged: LabelledImages | None,
    settings: ClassifierTrainingConfig,
    first: int,
    last: int,
) -> None:
    from detector.reporting.labelled_report import describe_images

    for line in (*describe_images("learn", train), *describe_images("judge", judged)):
        typer.echo(line, err=True)
    typer.echo(
        f"{settings.network.architecture} at {settings.network.input_size} pixels; recipe"
        f" {settings.recipe}, {last} steps of {settings.optimiser.batch} images"
        + (f", resumed at step {first}" if first else ""),
        err=True,
    )


def _save_settings(out: Path, settings: ClassifierTrainingConfig) -> None:
    import yaml

    from detector.files import write_atomically

    text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
    write_atomically(out / "config.yaml", text)


def _write_classifier(
    out: Path,
    settings: ClassifierTrainingConfig,
    train: LabelledImages,
    state: Any,
    network: Any,
) -> None:
    from detector.models.classifier_file import save_classifier

    seen = settings.network
    path = out / "classifier.safetensors"
    save_classifier(
        path, state, architecture=seen.architecture, options=seen.options,
        input_size=seen.input_size, classes=train.classes, normalisation=network.normalisation,
        pixel_scale=seen.pixel_scale,
    )  # fmt: skip
    typer.echo(
        f"wrote {path}; try: python tools/evaluate_classifier.py --weights {path} --data VAL",
        err=True,
    )


if __name__ == "__main__":
    run_tool(main)
