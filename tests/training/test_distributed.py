"""A group of processes ends with close(), before the interpreter does."""

from __future__ import annotations

import subprocess
import sys

import pytest

ONE_STEP = """
import os
from pathlib import Path

from detector.training.distributed import join_group

group = join_group(os.environ, "cpu")
import torch

network = torch.nn.Linear(2, 2)
network(torch.ones(1, 2)).sum().backward()
group.sum_gradients(network.parameters())
torch.optim.AdamW(network.parameters()).step()
open_threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
group.close()
closed_threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
assert any("gloo" in name for name in open_threads), open_threads
assert not any("gloo" in name for name in closed_threads), closed_threads
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_no_thread_of_a_group_outlives_it(tmp_path):
    script = tmp_path / "one_step.py"
    script.write_text(ONE_STEP)
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [sys.executable, *torchrun, str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
