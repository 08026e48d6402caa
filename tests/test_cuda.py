"""What a CUDA device computes is what the processor does; skipped where there is none."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.crops.warp import FILL_COLOUR, crop_batch, crop_reference, crop_stack
from detector.detection.ensemble import Ensemble, Member
from detector.models import build_model
from detector.models.inference.prepare import Precision
from detector.progress.journal import read_journal
from detector.training.engine.averaging import WeightAverage
from detector.training.regions.crops import fit_in_memory

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

TOOLS = Path(__file__).parents[1] / "tools"


def test_crops_are_within_a_level_of_the_plain_ones(rng):
    image = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    corner = rng.uniform(-20, 60, (70, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(4, 150, (70, 2))], 1)
    stack = torch.tensor(FILL_COLOUR, dtype=torch.uint8)[None, :, None, None].repeat(2, 1, 99, 130)
    stack[1, :, :90, :120] = torch.from_numpy(image).permute(2, 0, 1)
    for found in (
        crop_batch(image, boxes, 32, device="cuda"),
        crop_stack(stack.cuda(), np.ones(70, np.int64), boxes, 32),
    ):
        for box, crop in zip(boxes, found.cpu().numpy(), strict=True):
            assert np.abs(crop - crop_reference(image, box, 32)).max() < 1 / 255


@pytest.mark.parametrize(("precision", "rounding"), [("float32", 1e-3), ("bfloat16", 3e-2)])
def test_scores_are_those_of_the_processor(precision: Precision, rounding: float):
    torch.manual_seed(0)
    member = Member(build_model("googlenet", 5).eval(), 64)
    crops = {member.spec: torch.randn(9, 3, 64, 64) / 4}
    wanted = Ensemble([member])(crops)
    found = Ensemble([member], precision=precision, device="cuda")(crops)
    assert (found - wanted).abs().max() < rounding


def test_a_few_photographs_lie_in_its_memory():
    device = torch.device("cuda")
    assert fit_in_memory(np.full((6, 2), 500), device)
    assert not fit_in_memory(np.full((3_000_000, 2), 500), device)


def test_averages_are_those_of_the_processor():
    torch.manual_seed(0)
    host = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.BatchNorm1d(5))
    device = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.BatchNorm1d(5)).cuda()
    device.load_state_dict(host.state_dict())
    averages = WeightAverage(host, 0.9), WeightAverage(device, 0.9)
    for step in range(3):
        for network in (host, device):
            for parameter in network.parameters():
                parameter.data.add_(0.1 * (step + 1))
        for average, network in zip(averages, (host, device), strict=True):
            average.update(network, step)
    for name, value in averages[0].values.items():
        assert torch.allclose(value, averages[1].values[name].cpu(), atol=1e-6), name


def test_a_training_stops_resumes_and_its_bundle_detects(tmp_path: Path):
    from toy_regions import write_config, write_squares

    config, run = write_config(write_squares(tmp_path / "squares")), tmp_path / "run"
    command = [
        sys.executable, str(TOOLS / "train_regions.py"), "--config", str(config), "--device",
        "cuda", "--out", str(run), "--set", "optimiser.precision=bfloat16", "--set",
        "box_loss.weight=1", "--set", "sampling.hard_candidates=4", "--steps", "400",
    ]  # fmt: skip
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while first.poll() is None and not (run / "checkpoint.safetensors").exists():
        time.sleep(0.01)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=120)
    assert first.returncode == 130, said
    assert "crops by the device" in said
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [one["step"] for one in read_journal(run / "journal.jsonl")] == list(range(400))
    image = tmp_path / "squares" / "JPEGImages" / "000000.jpg"
    detect = [
        sys.executable, str(TOOLS / "detect.py"), str(image), "--device", "cuda",
        "--weights", str(run / "bundle"), "--out", str(tmp_path / "found"),
    ]  # fmt: skip
    done = subprocess.run(detect, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
