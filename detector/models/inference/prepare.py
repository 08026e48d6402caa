"""Inference: an optimised copy of a trained network, run in batches of one fixed shape.

Batch norm is folded into the convolutions, ReLU fused with them, weights stored in the CPU's own
blocked layout, maps channels-last in bfloat16 where that is fast; on a CPU pools and response
normalisation are compiled (numba_operators.py). The original network is not changed.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.errors import is_out_of_memory
from detector.hardware import has_fast_bfloat16
from detector.models.input_normalisation import CENTRED, Normalisation
from detector.models.layers import ConvReLU, LocalResponseNorm, MaxPool

Precision = Literal["float32", "bfloat16", "int8"]


def fastest_precision(device: torch.device | str) -> Precision:
    """bfloat16 where the device multiplies it in hardware, otherwise float32."""
    return "bfloat16" if has_fast_bfloat16(torch.device(device)) else "float32"


def prepare_for_inference(
    model: nn.Module,
    precision: Precision = "float32",
    normalisation: Normalisation = CENTRED,
    activation_ranges: Mapping[str, float] | None = None,
) -> Prepared:
    """Make a faster copy of `model` with the same logits (to rounding), for inference only.

    It takes centred crops of any float type and memory format, and returns float32 logits (or the
    network's other output, such as the maps of a trunk). "int8" is for a GoogLeNet with known
    activation ranges, on a CPU with exact 8-bit products (int8.py). Raises SettingsError where
    int8 is not possible.
    """
    # Here, since they import numba, and not every user of this file prepares a network.
    from detector.models.inference import int8, operators

    if precision == "int8":
        enter = int8.ToSteps(normalisation)
        return Prepared(int8.quantised(model, activation_ranges, enter), enter)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    model = copy.deepcopy(model).eval().requires_grad_(False)
    on_cpu = all(p.device.type == "cpu" for p in model.parameters())
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is ConvReLU:
                setattr(module, name, operators.FusedConvReLU(child, dtype))
            elif type(child) is MaxPool and child.kernel == 3 and on_cpu:
                setattr(module, name, operators.NumbaMaxPool(child))
            elif type(child) is LocalResponseNorm and on_cpu:
                setattr(module, name, operators.NumbaResponseNorm(child))
    model.to(memory_format=torch.channels_last).to(dtype)
    if hasattr(model, "classifier"):
        model.get_submodule("classifier").float()

    def enter_float(crops: Tensor) -> Tensor:
        return normalisation(crops).to(dtype, memory_format=torch.channels_last)

    return Prepared(model, enter_float)


class Prepared(nn.Module):
    """A prepared network; `enter` makes its input of centred crops. The last layer is float32."""

    def __init__(self, model: nn.Module, enter: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.enter = model, enter

    def forward(self, crops: Tensor) -> Tensor:
        out: Tensor = self.model(self.enter(crops))
        return out.float()

    def features(self, crops: Tensor) -> Tensor:
        """Input of the last layer: (N, F) float32."""
        model: Any = self.model
        pooled: Tensor = model.features(self.enter(crops))
        return pooled.float()

    @property
    def classifier(self) -> nn.Module:
        """The last layer: features (N, F) to logits."""
        return self.model.get_submodule("classifier")


_RUNS = threading.Lock()
_running, _thread_count = 0, 1


@contextmanager
def _restoring_thread_count() -> Iterator[None]:
    # A worker's thread count of 1 becomes the default of new threads. So the first of several
    # concurrent runs saves the count, and each restores it at its end.
    global _running, _thread_count
    with _RUNS:
        if _running == 0:
            _thread_count = torch.get_num_threads()
        _running += 1
    try:
        yield
    finally:
        with _RUNS:
            _running -= 1
            torch.set_num_threads(_thread_count)


class FixedBatches:
    """Run a network on any number of crops in batches of one shape, the last padded with zeros.

    On a CPU each batch is computed by one thread, `workers` of them in parallel. So a crop's result
    depends neither on the other crops nor on the number of cores (and the maps of a few crops stay
    in a core's cache, which is faster than many threads in each operator).
    """

    def __init__(self, model: nn.Module, *, batch_size: int, workers: int = 1) -> None:
        if batch_size < 1 or workers < 1:
            raise ValueError(f"batch_size {batch_size} and workers {workers} must be at least 1")
        self.model = model
        self.batch_size, self.workers = batch_size, workers
        parameter = next(iter(model.state_dict().values()))
        self.device = parameter.device
        self._halving, self._alone = threading.Lock(), threading.Lock()
        self.pool: ThreadPoolExecutor | None = None
        if self.device.type == "cpu":
            self.pool = ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(1))

    def __call__(self, crops: Tensor, function: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Apply `function`, or else the network: (N, 3, S, S) to (N, ...) on the CPU.

        When memory runs out, the same crops are tried again in batches of half the size, which is
        kept from then on; results may differ from before by rounding. The last resort is one crop
        at a time in one thread. Raises MemoryError if even that does not fit.
        """
        function = self.model if function is None else function
        alone = False
        while True:
            size = self.batch_size  # of this attempt: other threads may halve it meanwhile
            try:
                return self._run(crops, function, size, alone=alone)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if alone:
                    raise MemoryError(f"one crop at a time does not fit: {error}") from error
            # Outside the handler, whose traceback would hold the tensors of the failed batch.
            alone = size == 1
            with self._halving:
                self.batch_size = min(self.batch_size, max(1, size // 2))
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _run(
        self, crops: Tensor, function: Callable[[Tensor], Tensor], size: int, *, alone: bool
    ) -> Tensor:
        # Without crops a batch of padding still gives the result its columns.
        batches = crops.split(size) if len(crops) else (crops,)
        compute = partial(self._compute, function, size)
        # _alone: two last attempts at once may fail where one fits.
        with _restoring_thread_count(), self._alone if alone else nullcontext():
            if self.pool is None:
                results = list(map(compute, batches))
            elif alone:
                results = [self.pool.submit(compute, batch).result() for batch in batches]
            else:
                futures = [self.pool.submit(compute, batch) for batch in batches]
                try:
                    results = [future.result() for future in futures]
                finally:  # a batch under way holds memory that the next attempt needs
                    for future in futures:
                        future.cancel()
                    wait(futures)
        return torch.cat(results)

    def _compute(self, function: Callable[[Tensor], Tensor], size: int, batch: Tensor) -> Tensor:
        count = len(batch)
        with torch.inference_mode():
            batch = batch.to(self.device)
            if count < size:
                batch = F.pad(batch, (0, 0) * 3 + (0, size - count))
            return function(batch)[:count].cpu()
