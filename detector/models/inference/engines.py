"""Other engines than torch for a network on a CPU: OpenVINO and ONNX Runtime, which run it from a
file.

A file is written from torch's own export of the network, is run once beside torch, and takes its
place only where the two agree. Every crop of a batch of one shape is computed by one thread, so
that its result depends neither on the others nor on the number of cores, as with torch.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from detector.errors import DetectorError, SettingsError
from detector.files import write_atomically
from detector.structures import FILL_MEAN

# Largest difference to torch in float32, as a share of the largest output or of 1.
TOLERANCE = 1e-4
_NAMESPACE = "inception_rcnn"  # of our entries among a file's metadata


class Format(NamedTuple):
    """A kind of file, with what runs and what writes it."""

    suffix: str
    engine: str
    packages: tuple[str, ...]


FORMATS = {
    "openvino": Format(".xml", "openvino", ("openvino",)),
    "onnx": Format(".onnx", "onnxruntime", ("onnxruntime", "onnx", "onnxscript")),
}
FORMAT_OF = {entry.engine: name for name, entry in FORMATS.items()}


def is_installed(format: str) -> bool:
    """True where the packages that write and run such files are there."""
    return all(find_spec(package) for package in FORMATS[format].packages)


def versions() -> dict[str, str]:
    """The versions of torch and of the installed packages of all formats."""
    installed = {"torch": str(torch.__version__)}
    for package in (name for entry in FORMATS.values() for name in entry.packages):
        with suppress(PackageNotFoundError):
            installed[package] = version(package)
    return installed


def check_installed(format: str) -> None:
    """Raise SettingsError with what to install where a format's packages are missing."""
    missing = [package for package in FORMATS[format].packages if not find_spec(package)]
    if missing:
        raise SettingsError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing;"
            f' pip install "inception-rcnn[{format}]"'
        )


def export_network(
    network: nn.Module,
    sides: Mapping[str, int],
    outputs: Sequence[str],
    format: str,
    path: Path,
    about: Mapping[str, str],
) -> None:
    """Write a float32 network, which takes any number N of crops, as a file of `format`.

    sides    the side S of the crops of each input, by its name
    outputs  names of the network's outputs, in their order
    about    metadata of the file, by name

    OpenVINO has two files, PATH.xml and PATH.bin. Raises DetectorError where the engine fails, or
    where its outputs differ from torch's by more than TOLERANCE; nothing is written then.
    """
    check_installed(format)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        trial = Path(folder) / path.name
        try:
            difference = _try(_Listed(network).eval(), sides, outputs, format, trial, about)
        except Exception as error:  # the exporter's or the engine's own, of any type
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DetectorError(
                f"{path.name}: these networks cannot be written for {format} ({reason}); nothing"
                " was written"
            ) from error
        if not difference <= TOLERANCE:  # NaN, too
            raise DetectorError(
                f"{path.name}: {FORMATS[format].engine} computes other values than torch"
                f" (difference {difference:.2g}, allowed {TOLERANCE:g}); nothing was written"
            )
        # The file that readers open comes last, when the weights beside it are there.
        for file in sorted(trial.parent.iterdir()):
            write_atomically(path.with_suffix(file.suffix), file.read_bytes())


def _try(
    network: nn.Module, sides: Mapping[str, int], outputs: Sequence[str], format: str, path: Path,
    about: Mapping[str, str],
) -> float:  # fmt: skip
    """Write a file and run it beside torch: the largest difference of the outputs."""
    write = _write_openvino if format == "openvino" else _write_onnx
    # Deprecations among torch, its exporter and the engines are no business of the user.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        example = tuple(_noise(2, side) for side in sides.values())
        batch = {0: torch.export.Dim("N", min=1)}
        program = torch.export.export(network, example, dynamic_shapes=((batch,) * len(sides),))
        write(program, sides, outputs, path, about)
        crops = [_noise(3, side) for side in sides.values()]
        return _difference(open_network(path)(*crops), network(*crops))


class _Listed(nn.Module):
    """A network whose inputs are a list, and whose outputs are one, too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *crops: Tensor) -> list[Tensor]:
        outputs = self.network(*crops)
        return [outputs] if isinstance(outputs, Tensor) else outputs


def _noise(count: int, side: int) -> Tensor:
    pixels = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(count))
    return pixels - torch.tensor(FILL_MEAN).view(3, 1, 1)


def _difference(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    return max(
        float((mine - theirs).abs().max() / theirs.abs().max().clamp(min=1))
        for mine, theirs in zip(outputs, expected, strict=True)
    )


def _write_openvino(
    program: Any, sides: Mapping[str, int], outputs: Sequence[str], path: Path,
    about: Mapping[str, str],
) -> None:  # fmt: skip
    openvino = _openvino()
    model = openvino.convert_model(program)
    for port, name in zip([*model.inputs, *model.outputs], [*sides, *outputs], strict=True):
        port.get_tensor().set_names({name})
    model.reshape({name: [-1, 3, side, side] for name, side in sides.items()})
    for name, text in about.items():
        model.set_rt_info(text, [_NAMESPACE, name])
    openvino.save_model(model, path, compress_to_fp16=False)


def _write_onnx(
    program: Any, sides: Mapping[str, int], outputs: Sequence[str], path: Path,
    about: Mapping[str, str],
) -> None:  # fmt: skip
    exported: Any = torch.onnx.export(
        program, input_names=[*sides], output_names=[*outputs], dynamo=True, verbose=False
    )
    exported.model.metadata_props.update(
        {f"{_NAMESPACE}.{name}": text for name, text in about.items()}
    )
    exported.save(path)


def _openvino() -> Any:
    # It reports its use to its makers over the network, unless this module is missing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def open_network(
    path: Path, precision: str = "float32", workers: int = 1
) -> OpenVino | OnnxRuntime:
    """Open an exported file for up to `workers` threads at a time; ONNX Runtime has float32 only.

    It takes crops (N, 3, S, S) of each kind, and has the file's metadata as `about`.
    """
    if path.suffix == FORMATS["onnx"].suffix:
        return OnnxRuntime(path)
    return OpenVino(path, precision, workers)


class OnnxRuntime:
    """A network in an .onnx file; each call computes in the thread of its caller."""

    def __init__(self, path: Path) -> None:
        # It reports its use to its makers over the network, unless this is set before.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.names = [port.name for port in self.session.get_inputs()]
        entries = self.session.get_modelmeta().custom_metadata_map
        self.about = {name.removeprefix(f"{_NAMESPACE}."): text for name, text in entries.items()}

    def __call__(self, *crops: Tensor) -> list[Tensor]:
        arrays = [batch.contiguous().numpy() for batch in crops]
        outputs = self.session.run(None, dict(zip(self.names, arrays, strict=True)))
        return [torch.from_numpy(values) for values in outputs]


class OpenVino:
    """A network in OpenVINO's .xml and .bin, compiled for each size of batch that it meets."""

    def __init__(self, path: Path, precision: str, workers: int) -> None:
        core = _openvino().Core()
        self.core, self.model = core, core.read_model(path)
        # One thread for each batch; not tied to cores, which other processes use, too.
        self.options = {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": workers,
            "NUM_STREAMS": workers,
            "ENABLE_CPU_PINNING": False,
        }
        self._lock, self._requests = threading.Lock(), threading.local()
        self._compiled: dict[int, Any] = {}
        has_any = self.model.has_rt_info([_NAMESPACE])
        self.about: dict[str, str] = self.model.get_rt_info([_NAMESPACE]).value if has_any else {}

    def __call__(self, *crops: Tensor) -> list[Tensor]:
        arrays = [batch.contiguous().numpy() for batch in crops]
        outputs = self._request(len(crops[0])).infer(arrays)
        return [torch.from_numpy(outputs[position]) for position in range(len(outputs))]

    def _request(self, count: int) -> Any:
        requests: dict[int, Any] = self._requests.__dict__.setdefault("by_count", {})
        if count not in requests:
            with self._lock:
                if count not in self._compiled:
                    self.model.reshape(
                        {port: [count, *list(port.partial_shape)[1:]] for port in self.model.inputs}
                    )
                    compiled = self.core.compile_model(self.model, "CPU", self.options)
                    self._compiled[count] = compiled
            requests[count] = self._compiled[count].create_infer_request()
        return requests[count]
