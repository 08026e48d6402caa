"""Train the region classifier: proposals of annotated images, R-CNN's sampling, softmax over K
classes + background.

    python tools/train_regions.py --data VOC2012 --split train --start weights.safetensors --out
    runs/voc python tools/train_regions.py --config configs/shipped.yaml --data-root data --out
    runs/shipped torchrun --nproc-per-node 2 tools/train_regions.py --config ... --out ...

Run the same command again to resume. Ctrl-C finishes the step, saves, and exits; a second one exits
at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.reporting.cli import run_tool

if TYPE_CHECKING:
    from torch import nn

    from detector.build import RegionTrainingConfig
    from detector.datasets import Dataset
    from detector.structures import Proposals
    from detector.training.distributed import Group
    from detector.training.feature_bank import FeatureBank
    from detector.training.regions import RegionPool


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run: journal, checkpoints, bundle.")],
    config: Annotated[Path | None, typer.Option(help="YAML of settings (configs/).")] = None,
    data: Annotated[list[str], typer.Option(help="Data set folder or file; may repeat.")] = [],  # noqa: B006
    split: Annotated[str | None, typer.Option(help="Split of every --data, such as train.")] = None,
    data_root: Annotated[Path, typer.Option(help="Where relative data paths begin.")] = Path("."),
    start: Annotated[
        Path | None, typer.Option(help="Weights that the network starts from.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of batches.")] = None,
    change: Annotated[
        list[str], typer.Option("--set", help="room.setting=value; may repeat.")
    ] = [],  # noqa: B006
    cache: Annotated[
        Path | None, typer.Option(help="Proposal cache. [OUT/proposals.sqlite]")
    ] = None,
    bank: Annotated[
        Path | None, typer.Option(help="Maps of the trunk, for configs with a bank. [OUT/bank]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads that make crops and proposals.")] = 2,
    quiet: Annotated[bool, typer.Option(help="No progress.")] = False,
) -> int:
    """Train a region classifier; run again to resume."""
    from detector.build import RegionTrainingConfig, load_config, validated
    from detector.hardware import choose_device
    from detector.reporting.cli import stop_gently
    from detector.training.distributed import join_group

    tree = load_config(config, change)
    if data:
        tree["data"] = [{"path": path, "split": split} for path in data]
    if start is not None:
        tree.setdefault("member", {})["weights"] = str(start.resolve())
    if steps is not None:
        tree.setdefault("optimiser", {})["steps"] = steps
    tree.setdefault("data", ())
    settings: RegionTrainingConfig = validated(RegionTrainingConfig, tree, str(config or "options"))
    if not settings.data:
        raise typer.BadParameter("give --data FOLDER, or a --config that names data")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and device == "auto":
        device = f"cuda:{os.environ['LOCAL_RANK']}" if _has_cuda() else "cpu"
    where = choose_device(device)
    group = join_group(os.environ, where.type)
    try:
        with stop_gently("this step, then saving") as stop:
            return _train(
                settings, out, data_root, cache, bank, where, threads, quiet, group, stop
            )  # fmt: skip
    finally:
        group.close()


def _train(
    settings: RegionTrainingConfig,
    out: Path,
    data_root: Path,
    cache: Path | None,
    bank: Path | None,
    device: Any,
    threads: int,
    quiet: bool,
    group: Group,
    stop: Any,
) -> int:
    import time

    import torch

    from detector.build import build_dataset, build_network
    from detector.hardware import choose_precision
    from detector.reporting.journal import Journal
    from detector.reporting.live import TrainingDisplay
    from detector.training.batches import RegionCrops, prefetched
    from detector.training.checkpoint import fingerprint_of
    from detector.training.loss import region_loss
    from detector.training.mining import hardest
    from detector.training.regions import RegionPool
    from detector.training.state import TrainingState, freeze

    quiet = quiet or not group.is_first
    out.mkdir(parents=True, exist_ok=True)
    dataset = build_dataset(settings.data, settings.classes, data_root)
    proposals = _proposals(settings, dataset, cache or out / "proposals.sqlite", threads, quiet)
    dataset = dataset.subset(list(proposals))
    pool = RegionPool(dataset, proposals, settings.sampling)
    if group.is_first:
        _report(dataset, pool.describe(), out, quiet)
        _save_settings(out, settings)

    torch.manual_seed(settings.optimiser.seed)
    whole = build_network(settings.member, len(dataset.classes) + 1, data_root).to(device)
    whole = whole.to(memory_format=torch.channels_last)
    group.same_weights(whole)
    crops_of = RegionCrops(
        dataset, settings.member.input_size, settings.augment, settings.optimiser.seed,
        settings.member.context,
    )  # fmt: skip
    make: Any = crops_of
    network: nn.Module = whole
    below: dict[str, Any] = {}
    if settings.bank is not None:
        network, below, pool, make = _banked(
            settings, dataset, pool, whole, bank or out / "bank", device, threads, quiet, group
        )
    freeze(network, settings.member.freeze)
    run = TrainingState(network, settings.optimiser, fingerprint_of(settings.model_dump()))
    first = run.resume(out)
    journal = Journal(out / "journal.jsonl", resume_at=first) if group.is_first else None
    precision = choose_precision(settings.optimiser.precision, device)
    batch_size = settings.sampling.positives_per_batch + settings.sampling.background_per_batch
    candidates = settings.sampling.background_per_batch + settings.sampling.hard_candidates
    share = settings.sampling.background_per_batch / max(1, candidates)

    def batch_at(step: int) -> tuple[Any, Any, Any]:
        batch = pool.draw(settings.optimiser.seed, step)
        own = batch.part(group.rank, group.world)
        return own, *make(own, step, group.rank)

    bad_in_a_row, last = 0, settings.optimiser.steps
    display = TrainingDisplay(last, first, batch_size, quiet)
    before = time.perf_counter()
    step = first
    for step, (batch, crops, possible) in enumerate(
        prefetched(batch_at, first, last, threads=max(1, threads - 1)), start=first
    ):
        waited = time.perf_counter() - before
        torch.manual_seed((settings.optimiser.seed * 1_000_003 + step) * 1009 + group.rank)
        rate = run.set_rate(step)
        crops, possible = crops.to(device, non_blocking=True), possible.to(device)
        positive = torch.from_numpy(batch.labels < len(dataset.classes)).to(device)
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            if share < 1:
                learnt = hardest(network, crops, possible, ~positive, share)
                crops, possible, positive = crops[learnt], possible[learnt], positive[learnt]
            logits = network(crops)
        smoothing = settings.optimiser.label_smoothing
        losses = region_loss(logits, possible, label_smoothing=smoothing)
        (losses.sum() / batch_size).backward()
        group.sum_gradients(run.trainable)
        hits = possible[torch.arange(len(possible)), logits.argmax(1)]
        sums = group.sum(
            torch.stack(
                [losses.sum(), hits.sum(), (hits & positive).sum(), positive.sum()]
            ).detach()
        )
        loss, norm = float(sums[0]) / batch_size, run.gradient_norm()
        if loss == loss and abs(loss) + norm < float("inf"):
            run.update(step)
            bad_in_a_row = 0
        else:
            bad_in_a_row += 1
            run.skip(step, batch, out, bad_in_a_row)
        now = time.perf_counter()
        if journal is not None:
            journal.write(
                step=step, loss=round(loss, 5), rate=rate, gradient=round(norm, 4),
                right=round(float(sums[1]) / batch_size, 4),
                positives_right=round(float(sums[2] / sums[3].clamp(min=1)), 4),
                seconds=round(now - before, 3), waited=round(waited, 3),
            )  # fmt: skip
        display.step(step, loss, rate, float(sums[2] / sums[3].clamp(min=1)), waited)
        stopping = group.any(bool(stop), device)
        if stopping or step + 1 == last or (step + 1) % settings.optimiser.save_every == 0:
            if group.is_first:
                run.save(out, step + 1)
            group.wait()
        before = time.perf_counter()
        if stopping:
            break
    display.close()
    if journal is not None:
        journal.close()
    for path, message in sorted(crops_of.broken.items()):
        typer.echo(f"left out: {path}: {message}", err=True)
    if group.is_first and not stop:
        _write_bundle(out, settings, dataset, {**below, **run.averaged()}, whole)
    return 1 if crops_of.broken else 0


def _banked(
    settings: RegionTrainingConfig,
    dataset: Dataset,
    pool: RegionPool,
    whole: nn.Module,
    folder: Path,
    device: Any,
    threads: int,
    quiet: bool,
    group: Group,
) -> tuple[nn.Module, dict[str, Any], RegionPool, FeatureBank]:
    """The top of the network, the trunk's state, and the regions whose maps are kept (made now
    where they are not yet).
    """
    import numpy as np

    from detector.build import bank_fingerprint
    from detector.models.inference import FixedBatches, prepare_for_inference
    from detector.models.split import Top, Trunk
    from detector.reporting.progress import progress
    from detector.training.batches import RegionCrops
    from detector.training.feature_bank import BankBuilder, choose, map_shape

    assert settings.bank is not None
    crops = RegionCrops(
        dataset, settings.member.input_size, settings.augment, settings.bank.seed,
        settings.member.context,
    )  # fmt: skip
    trunk, top = Trunk(whole, settings.bank.after), Top(whole, settings.bank.after)
    rows = choose(pool, np.array([s.annotated is not None for s in dataset.samples]), settings.bank)
    fast = prepare_for_inference(trunk, "float32", trunk.normalisation)
    builder = BankBuilder(
        folder, pool, rows, crops,
        FixedBatches(fast, batch_size=8 if device.type == "cpu" else 128, workers=threads),
        map_shape(trunk, settings.member.input_size),
        bank_fingerprint(settings),
        threads,
    )  # fmt: skip
    if group.is_first:
        for _ in progress(builder.build(), "maps of the trunk", builder.images(), quiet):
            pass
    group.wait()
    return top, dict(trunk.state_dict()), pool.restricted(rows), builder.open()


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _proposals(
    settings: RegionTrainingConfig, dataset: Dataset, cache: Path, threads: int, quiet: bool
) -> dict[str, Proposals]:
    """Proposals by image id, from the cache or computed into it; images that cannot be read are
    left out.
    """
    from detector.build import build_proposer
    from detector.errors import DatasetError, ImageError
    from detector.proposals.gather import gather
    from detector.proposals.stored import ProposalStore
    from detector.reporting.progress import progress

    proposer = build_proposer(settings.proposals.engine, settings.proposals.options)
    found: dict[str, Proposals] = {}
    paths = [sample.path for sample in dataset.samples]
    with ProposalStore(cache, "rw") as store:
        results = progress(
            gather(paths, proposer, store, threads=threads), "proposals", len(paths), quiet
        )
        for sample, (_, result) in zip(dataset.samples, results, strict=True):
            if isinstance(result, ImageError):
                typer.echo(f"left out: {result}", err=True)
            else:
                found[sample.image_id] = result
    if not found:
        raise DatasetError(f"{dataset.name}: none of its {len(paths)} images can be read")
    return found


def _report(dataset: Dataset, pool: dict[str, int], out: Path, quiet: bool) -> None:
    """The early sanity report: what will be learnt from, and what was left out."""
    import numpy as np

    counts = np.zeros(len(dataset.classes), int)
    for sample in dataset.samples:
        np.add.at(counts, sample.annotations.labels, 1)
    if quiet:
        return
    typer.echo(f"{dataset.name}: {len(dataset)} images, {counts.sum()} objects", err=True)
    rows = [f"{name} {n}" for name, n in zip(dataset.classes, counts, strict=True)]
    typer.echo("  " + ", ".join(rows), err=True)
    typer.echo("  " + ", ".join(f"{n} {what}" for what, n in pool.items()), err=True)
    for rule, n in dataset.dropped_by_rule().items():
        typer.echo(f"  left out: {n} x {rule}", err=True)
    missing = [name for name, n in zip(dataset.classes, counts, strict=True) if n == 0]
    if missing:
        typer.echo(f"  warning: no objects of {', '.join(missing)}", err=True)


def _save_settings(out: Path, settings: RegionTrainingConfig) -> None:
    import yaml

    from detector.files import write_atomically

    write_atomically(
        out / "config.yaml", yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
    )


def _write_bundle(
    out: Path,
    settings: RegionTrainingConfig,
    dataset: Dataset,
    averaged: dict[str, Any],
    network: nn.Module,
) -> None:
    """The averaged weights as a detector that tools/detect.py loads."""
    from detector.build import bundle_of_run
    from detector.bundle import save_bundle

    manifest, states = bundle_of_run(settings, dataset, network, averaged)
    save_bundle(out / "bundle", manifest, states)
    typer.echo(
        f"wrote {out / 'bundle'}; try: python tools/detect.py IMAGE --weights {out / 'bundle'}",
        err=True,
    )


if __name__ == "__main__":
    run_tool(main)
