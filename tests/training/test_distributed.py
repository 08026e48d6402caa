"""A group of processes ends with close(), before the interpreter does."""

import subprocess
import sys

import pytest

from detector.errors import SettingsError
from detector.training.engine.distributed import Group

ONE_STEP = """
import os
from pathlib import Path

from detector.training.engine.distributed import join_group

group = join_group(os.environ, "cpu")
import torch

network = torch.nn.Linear(2, 2)
network(torch.ones(1, 2)).sum().backward()
group.all_reduce_gradients(network.parameters())
torch.optim.AdamW(network.parameters()).step()
open_threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
group.close()
closed_threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
assert any("gloo" in name for name in open_threads), open_threads
assert not any("gloo" in name for name in closed_threads), closed_threads
"""


STEPS = """
import os
from pathlib import Path

import torch

from detector.training.engine.context import RunContext
from detector.training.engine.distributed import join_group

group = join_group(os.environ, "cpu")


class Asked:
    # the second process is asked to stop before the fourth agreement
    times = 0

    def __bool__(self):
        self.times += 1
        return group.rank == 1 and self.times == 4


kept = []


def steps():
    try:
        for number in range(1, 100):
            kept.append(number)
            yield number
    except GeneratorExit:
        kept.append("closed")
        raise


assert group.run_on_main(iter(range(1, 6)), False)  # to the end
assert not group.run_on_main(steps(), Asked())


class Signalled:
    # the second process only
    others = False

    def __bool__(self):
        return group.rank == 1

    def with_the_others(self):
        self.others = True


one = Signalled()
context = RunContext(Path(), Path(), torch.device("cpu"), 1, True, group=group, stop=one)
assert context.stops() and one.others
assert group.agree(7)
assert not group.agree(7 + group.rank)
assert kept == ([1, 2, 3, 4, "closed"] if group.is_main else [])
group.close()
"""


def test_one_process_does_its_steps_alone_and_closes_what_it_is_stopped_in():
    group, seen = Group(), []

    def steps():
        for number in range(3):
            seen.append(number)
            yield number + 1

    assert group.run_on_main(steps(), False)
    assert seen == [0, 1, 2]
    running = steps()
    assert not group.run_on_main(running, True)
    assert list(running) == []


@pytest.mark.slow
@pytest.mark.parametrize("script", [ONE_STEP, STEPS], ids=["threads", "steps"])
@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_two_processes_end_together_and_no_thread_outlives_their_group(script: str, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(script)
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [sys.executable, *torchrun, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_batch_has_something_for_every_part_of_every_process():
    Group(0, 3).check_batch(6, accumulate=2)
    with pytest.raises(SettingsError, match="5 does not go around 3 processes of 2 parts"):
        Group(0, 3).check_batch(5, accumulate=2)
