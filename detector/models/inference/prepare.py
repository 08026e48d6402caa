"""Inference: an optimised copy of a trained network, run in batches of one fixed shape.

Batch norm is folded into the convolutions, ReLU fused with them, weights stored in the CPU's own
blocked layout, maps channels-last in bfloat16 where that is fast; on a CPU pools and response
normalisation are compiled (numba_operators.py). The original network is not changed.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.errors import is_out_of_memory
from detector.hardware import has_fast_bfloat16
from detector.models.inception import ConvReLU, LocalResponseNorm, MaxPool
from detector.models.inference.folding import fold_batch_norm, halved_side
from detector.models.normalisation import CENTRED, Normalisation

Precision = Literal["float32", "bfloat16", "int8"]


def fastest_precision(device: torch.device | str) -> Precision:
    """bfloat16 where the device multiplies it in hardware, otherwise float32."""
    return "bfloat16" if has_fast_bfloat16(torch.device(device)) else "float32"


def prepare_for_inference(
    model: nn.Module,
    precision: Precision = "float32",
    normalisation: Normalisation = CENTRED,
    activation_ranges: Mapping[str, float] | None = None,
) -> nn.Module:
    """Make a faster copy of `model` with the same logits (to rounding), for inference only.

    It takes centred crops of any float type and memory format, and returns float32 logits (or the
    network's other output, such as the maps of a trunk). "int8" is for a GoogLeNet with known
    activation ranges, on a CPU with exact 8-bit products (int8.py). Raises SettingsError where
    int8 is not possible.
    """
    if precision == "int8":
        from detector.models.inference.int8 import QuantisedGoogLeNet

        return QuantisedGoogLeNet(model, activation_ranges, normalisation)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    model = copy.deepcopy(model).eval().requires_grad_(False)
    on_cpu = all(p.device.type == "cpu" for p in model.parameters())
    _replace(model, ConvReLU, lambda conv: FusedConvReLU(conv, dtype))
    if on_cpu:
        _replace(model, MaxPool, lambda pool: NumbaMaxPool(pool) if pool.kernel == 3 else pool)
        _replace(model, LocalResponseNorm, NumbaResponseNorm)
    model.to(memory_format=torch.channels_last).to(dtype)
    if hasattr(model, "classifier"):
        model.get_submodule("classifier").float()
    return Prepared(model, dtype, normalisation)


def _replace(model: nn.Module, kind: type, make: Callable[[Any], nn.Module]) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is kind:
                setattr(module, name, make(child))


class Prepared(nn.Module):
    """The network on normalised input of `dtype`; the last layer stays in float32."""

    def __init__(self, model: nn.Module, dtype: torch.dtype, normalisation: Normalisation) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype
        self.normalisation = normalisation

    def forward(self, crops: Tensor) -> Tensor:
        return self.model(self._convert(crops)).float()

    def features(self, crops: Tensor) -> Tensor:
        """Input of the last layer: (N, F) float32."""
        features: Any = self.model.features
        pooled: Tensor = features(self._convert(crops))
        return pooled.float()

    @property
    def classifier(self) -> nn.Module:
        """The last layer: features (N, F) to logits."""
        return self.model.get_submodule("classifier")

    def _convert(self, crops: Tensor) -> Tensor:
        return self.normalisation(crops).to(self.dtype, memory_format=torch.channels_last)


class FusedConvReLU(nn.Module):
    """Convolution, folded batch norm and ReLU: one operator on a CPU, two elsewhere."""

    weight: Tensor
    bias: Tensor

    def __init__(self, source: ConvReLU, dtype: torch.dtype) -> None:
        super().__init__()
        weight, bias = (t.to(dtype) for t in fold_batch_norm(source.conv, source.bn))
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)
        self.stride: list[int] = list(source.conv.stride)
        self.padding: Any = list(source.conv.padding)
        self.fused = _has_fused_convolution(self.weight)
        self.packed: tuple[torch.Size, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.fused:
            return F.relu(F.conv2d(x, self.weight, self.bias, self.stride, self.padding), True)
        packed = self.packed
        if packed is None or packed[0] != x.shape:
            # Packed for this input shape: for others, oneDNN may reorder the weights at each call.
            packed = self.packed = x.shape, self._pack(x)
        return torch.ops.mkldnn._convolution_pointwise(
            x, packed[1], self.bias, self.padding, self.stride, [1, 1], 1, "relu", [], ""
        )

    def _pack(self, x: Tensor) -> Tensor:
        packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
            self.weight, self.padding, self.stride, [1, 1], 1, list(x.shape)
        )
        return packed


def _has_fused_convolution(weight: Tensor) -> bool:
    """True where this build of torch has the fused operators of its own compiler for CPUs."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    probe = torch.ones(1, 1, 1, 1, dtype=weight.dtype)
    plain = [0, 0], [1, 1], [1, 1], 1
    try:
        packed = torch.ops.mkldnn._reorder_convolution_weight(probe, *plain, [1, 1, 1, 1])
        out = torch.ops.mkldnn._convolution_pointwise(probe, packed, None, *plain, "relu", [], "")
    except (RuntimeError, AttributeError, TypeError):
        return False
    return bool((out == 1).all())


def _bits(x: Tensor) -> Any:
    """NumPy view (N, H, W, C) of the bits of a channels-last map (N, C, H, W)."""
    kind = torch.int16 if x.dtype == torch.bfloat16 else torch.int32
    return x.permute(0, 2, 3, 1).view(kind).numpy()


class NumbaMaxPool(nn.Module):
    """Compiled 3x3 max-pool of a map without negative numbers."""

    def __init__(self, pool: MaxPool) -> None:
        super().__init__()
        from detector.models.inference import numba_operators

        self.stride, self.ceil = pool.stride, pool.ceil
        self.run = (
            numba_operators.pool_in_place_of if pool.stride == 1 else numba_operators.pool_halving
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        batch, channels, height, width = x.shape
        if self.stride == 2:
            height, width = (halved_side(side, self.ceil) for side in (height, width))
        out = torch.empty(
            (batch, channels, height, width), dtype=x.dtype, memory_format=torch.channels_last
        )
        self.run(_bits(x), _bits(out))
        return out


class NumbaResponseNorm(nn.Module):
    """Compiled LocalResponseNorm: one pass over the channels of each pixel."""

    def __init__(self, norm: LocalResponseNorm) -> None:
        super().__init__()
        from detector.models.inference import numba_operators

        self.scale = float(norm.band[0, 0, 0, 0])
        self.run = numba_operators.response_norm

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        out = torch.empty_like(x)
        channels = x.shape[1]
        self.run(_bits(x).reshape(-1, channels), _bits(out).reshape(-1, channels), self.scale)
        return out


_RUNS = threading.Lock()
_running, _thread_count = 0, 1


@contextmanager
def _restoring_thread_count() -> Iterator[None]:
    """Restore torch's thread count after runs whose workers set it to 1.

    A worker's setting becomes the default of new threads. So the first of several concurrent runs
    saves the count, and the last one restores it.
    """
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
        self.batch_size = batch_size
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
        batches = crops.split(size) if len(crops) else (crops,)
        compute = partial(self._compute, function, size)
        with _restoring_thread_count(), self._alone if alone else nullcontext():
            if self.pool is None:
                results = list(map(compute, batches))
            elif alone:
                results = [self.pool.submit(compute, batch).result() for batch in batches]
            else:
                results = list(self.pool.map(compute, batches))
        return torch.cat(results)

    def _compute(self, function: Callable[[Tensor], Tensor], size: int, batch: Tensor) -> Tensor:
        count = len(batch)
        with torch.inference_mode():
            batch = batch.to(self.device)
            if count < size:
                batch = F.pad(batch, (0, 0) * 3 + (0, size - count))
            return function(batch)[:count].cpu()
