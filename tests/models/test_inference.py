"""The fast network gives the plain one's logits, crop by crop, whatever the company."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from test_pretrained import randomised
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from detector.models.googlenet import GoogLeNet
from detector.models.inference.operators import (
    FusedConvReLU,
    NumbaMaxPool,
    NumbaResponseNorm,
    fold_batch_norm,
)
from detector.models.inference.prepare import FixedBatches, prepare_for_inference
from detector.models.input_normalisation import HALF
from detector.models.layers import ConvReLU, LocalResponseNorm, MaxPool


def positive(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """What a ReLU gives: half of it zeros, some of them negative zeros."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 50
    x = torch.where(x < -60, -0.0, x.clamp_min(0))
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


class NoFloat64(TorchDispatchMode):
    """A device that lacks it, as Apple's do."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        if isinstance(made, torch.Tensor) and made.dtype == torch.float64:
            assert made.device.type == "cpu"
        return made


def test_norms_are_folded_for_a_device_without_float64():
    with FakeTensorMode(), torch.device("cuda"):  # nothing is computed, only where it would be
        conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).eval()
        with NoFloat64():
            found = fold_batch_norm(conv, norm)
    assert [(one.device.type, one.dtype) for one in found] == [("cuda", torch.float32)] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 8, 7, 7), (1, 20, 12, 9), (1, 16, 3, 4), (2, 5, 8, 8)])
@pytest.mark.parametrize(
    ("stride", "padding", "ceil"), [(1, 1, False), (2, 0, True), (2, 0, False)]
)
def test_the_compiled_pool_equals_the_frameworks(shape, dtype, stride, padding, ceil):
    x = positive(*shape, dtype=dtype)
    pool = MaxPool(stride=stride, padding=padding, ceil=ceil)
    found = NumbaMaxPool(pool)(x)
    assert found.dtype == dtype
    assert torch.equal(found, pool(x))


def test_the_compiled_pool_by_hand():
    x = torch.tensor([[1.0, 5.0, 2.0], [0.0, 3.0, 4.0], [7.0, 0.0, 0.0]]).view(1, 1, 3, 3)
    pool = NumbaMaxPool(MaxPool(stride=1, padding=1, ceil=False))
    assert pool(x).view(3, 3).tolist() == [[5, 5, 5], [7, 7, 5], [7, 7, 4]]


@pytest.mark.parametrize("channels", [1, 3, 64, 192])
def test_the_compiled_response_norm_equals_the_frameworks(channels):
    x = positive(2, channels, 5, 6)
    norm = NumbaResponseNorm(LocalResponseNorm(channels))
    expected = F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)
    torch.testing.assert_close(norm(x), expected, rtol=1e-5, atol=1e-5)
    rounded = norm(x.bfloat16())
    expected = F.local_response_norm(x.bfloat16().float(), 5, alpha=1e-4, beta=0.75, k=1.0)
    torch.testing.assert_close(rounded.float(), expected, rtol=2**-8, atol=1e-5)


def test_batch_norm_folds_by_hand():
    """Weight 2, mean 1, variance 4 - 1e-3, gain 3, shift 5: 3 (2 x - 1) / 2 + 5 = 3 x + 3.5."""
    conv = ConvReLU(1, 1, 1, norm=True)
    conv.conv.weight.data.fill_(2)
    conv.bn.running_mean.fill_(1)
    conv.bn.running_var.fill_(4 - 1e-3)
    conv.bn.weight.data.fill_(3)
    conv.bn.bias.data.fill_(5)
    weight, bias = fold_batch_norm(conv.conv, conv.bn)
    assert weight.item() == pytest.approx(3)
    assert bias.item() == pytest.approx(3.5)


@pytest.mark.parametrize("fused", [True, False])
def test_a_fused_convolution_equals_its_parts(fused):
    conv = randomised(ConvReLU(5, 7, 3, norm=True, stride=2, padding=1)).eval()
    ours = FusedConvReLU(conv, torch.float32)
    ours.fused = ours.fused and fused
    for side in (9, 12, 9):
        x = torch.randn(2, 5, side, side)
        with torch.inference_mode():
            torch.testing.assert_close(ours(x), conv(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["v1", "bn", "torchvision"])
def test_the_prepared_network_gives_the_same_logits(form):
    model = randomised(GoogLeNet(5, form=form)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(2)) / 4
    with torch.inference_mode():
        expected = model(HALF(x))
        found = prepare_for_inference(model, "float32", HALF)(x)
        rounded = prepare_for_inference(model, "bfloat16", HALF)(x)
    spread = expected.std()
    assert found.dtype == rounded.dtype == torch.float32
    assert (found - expected).abs().max() < 1e-4 * spread
    assert (rounded - expected).abs().max() < 0.2 * spread
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_batches_are_padded_and_threads_left_as_they_were():
    seen = []

    def count(batch: torch.Tensor) -> torch.Tensor:
        seen.append((len(batch), torch.get_num_threads()))
        return batch.sum((1, 2, 3))[:, None]

    threads = torch.get_num_threads()
    run = FixedBatches(torch.nn.Linear(1, 1), batch_size=4, workers=2)
    out = run(torch.arange(10.0).view(10, 1, 1, 1).expand(10, 3, 1, 1), count)
    assert out.flatten().tolist() == [3.0 * i for i in range(10)]
    assert seen == [(4, 1)] * 3
    assert torch.get_num_threads() == threads
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == threads
    assert run(torch.zeros(0, 3, 1, 1), count).shape == (0, 1)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: tried 9 bytes"),
        MemoryError(),
    ],
    ids=["device", "host", "python"],
)
def test_where_memory_runs_out_the_same_crops_run_in_halves_and_the_size_is_kept(error):
    """Room for three crops: 8 and 4 at a time do not fit, 2 do."""
    model = GoogLeNet(3, generator=torch.Generator().manual_seed(0))
    fast = prepare_for_inference(model)
    crops = torch.randn(11, 3, 64, 64, generator=torch.Generator().manual_seed(1)) / 4
    expected = FixedBatches(fast, batch_size=8)(crops)
    sizes = []

    def with_little_room(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 3:
            raise error
        return fast(batch)

    run = FixedBatches(fast, batch_size=8, workers=2)
    torch.testing.assert_close(run(crops, with_little_room), expected, rtol=0, atol=1e-5)
    assert (set(sizes), run.batch_size) == ({8, 4, 2}, 2)
    sizes.clear()
    run(crops, with_little_room)
    assert set(sizes) == {2}


def test_a_thread_that_runs_out_of_memory_late_does_not_undo_what_another_has_found():
    """It was the larger size that failed, so half of it may be more than is known to fit."""
    late, done, sizes = threading.Event(), threading.Event(), []

    def with_little_room(batch: torch.Tensor) -> torch.Tensor:
        if threading.current_thread().name == "late" and not late.is_set():
            late.set()
            done.wait(30)
        elif late.is_set():
            sizes.append(len(batch))
        if len(batch) > 1:
            raise MemoryError
        return batch.sum((1, 2, 3))[:, None]

    run = FixedBatches(torch.nn.Linear(1, 1).to("meta"), batch_size=4)  # in the thread that calls
    run.device = torch.device("cpu")
    crops = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 1, 1)
    found: list[torch.Tensor] = []

    def go() -> None:
        found.append(run(crops, with_little_room))

    thread = threading.Thread(target=go, name="late")
    thread.start()
    late.wait(30)
    go()
    assert sizes == [4, 2, 1, 1, 1]
    sizes.clear()
    done.set()
    thread.join(30)
    assert sizes == [1, 1, 1]
    assert run.batch_size == 1
    assert [one.flatten().tolist() for one in found] == [[0, 3, 6]] * 2


def test_crops_that_fit_one_after_the_other_only_are_computed_so():
    """Several threads, each with one crop, may together be too many."""
    counting, busy, together = threading.Lock(), 0, threading.Barrier(2, timeout=0.2)

    def with_room_for_one(batch: torch.Tensor) -> torch.Tensor:
        nonlocal busy
        with counting:
            busy += 1
        try:
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait()
            if busy > 1 or len(batch) > 1:
                raise MemoryError
            return batch.sum((1, 2, 3))[:, None]
        finally:
            with counting:
                busy -= 1

    run = FixedBatches(torch.nn.Linear(1, 1), batch_size=1, workers=2)
    crops = torch.ones(4, 3, 1, 1)
    assert run(crops, with_room_for_one).flatten().tolist() == [3.0] * 4


def test_the_last_attempt_waits_for_the_batches_under_way():
    counting, busy = threading.Lock(), 0
    under_way, failed = threading.Event(), threading.Event()

    def the_first_fails(batch: torch.Tensor) -> torch.Tensor:
        nonlocal busy
        with counting:
            busy += 1
        try:
            if not failed.is_set() and float(batch[0, 0, 0, 0]) == 0:
                under_way.wait(5)
                failed.set()
                raise MemoryError
            if not failed.is_set():
                under_way.set()
                failed.wait(5)
                threading.Event().wait(0.2)  # it still holds its memory for a while
            elif busy > 1:
                raise MemoryError
            return batch.sum((1, 2, 3))[:, None]
        finally:
            with counting:
                busy -= 1

    run = FixedBatches(torch.nn.Linear(1, 1), batch_size=1, workers=2)
    crops = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    assert run(crops, the_first_fails).flatten().tolist() == [0.0, 3.0]


def test_a_crop_that_does_not_fit_by_itself_is_an_error():
    def without_room(batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("MPS backend out of memory")

    run = FixedBatches(torch.nn.Linear(1, 1), batch_size=4)
    with pytest.raises(MemoryError, match="one crop at a time"):
        run(torch.zeros(5, 3, 1, 1), without_room)


def test_another_error_is_not_tried_again():
    tries = []

    def broken(batch: torch.Tensor) -> torch.Tensor:
        tries.append(len(batch))
        raise RuntimeError("shapes do not fit")

    run = FixedBatches(torch.nn.Linear(1, 1), batch_size=4)
    with pytest.raises(RuntimeError, match="shapes"):
        run(torch.zeros(3, 3, 1, 1), broken)
    assert (tries, run.batch_size) == ([4], 4)


def test_runs_side_by_side_leave_new_threads_their_count():
    from concurrent.futures import ThreadPoolExecutor

    from detector.models.inference import prepare as inference

    before = torch.get_num_threads()
    torch.set_num_threads(3)

    def alone(function):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(function).result()

    try:
        first, second = inference._restoring_thread_count(), inference._restoring_thread_count()
        first.__enter__()
        alone(lambda: torch.set_num_threads(1))  # a worker starts
        alone(second.__enter__)  # in a thread that sees the worker's count
        first.__exit__(None, None, None)
        alone(lambda: second.__exit__(None, None, None))
        assert alone(torch.get_num_threads) == 3
    finally:
        torch.set_num_threads(before)
