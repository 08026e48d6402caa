"""Bundles round-trip, are replaced in one step, and bad ones are refused by file and tensor."""

import hashlib
import json
import resource

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

import detector.detection.bundle.writing
from detector.detection.bundle import (
    BundleManifest,
    MemberManifest,
    Provenance,
    load_bundle,
    read_manifest,
    save_bundle,
    set_activation_ranges,
)
from detector.detection.settings import DetectionSettings
from detector.detection.size_prior import SizePrior
from detector.errors import BundleError, SettingsError
from detector.models import ARCHITECTURES
from detector.models.weights.storage import decode, encode, quantise


class Tiny(nn.Module):
    """Enough of an architecture to be stored: a kernel, a norm and a last layer."""

    def __init__(self, num_outputs: int, *, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.bn = nn.BatchNorm2d(width)
        self.classifier = nn.Linear(width, num_outputs)


@pytest.fixture(autouse=True)
def _tiny_is_an_architecture(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "tiny", Tiny)


def manifest(*members: MemberManifest) -> BundleManifest:
    return BundleManifest(
        classes=("cat", "dog"),
        members=members or (MemberManifest(architecture="tiny", input_size=32),),
        proposals={"engine": "selective-search"},
        thresholds=DetectionSettings(score=0.1),
        provenance=Provenance(training_data="two drawings", licence="CC0-1.0"),
        metrics={"mAP": 0.5},
    )


def tiny(seed: int = 0, width: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = Tiny(3, width=width).state_dict()
    return {
        name: torch.randn(value.shape, generator=generator) if value.ndim else value
        for name, value in state.items()
    }


def largest_difference(one, two) -> float:
    return max(float((one[name].float() - two[name].float()).abs().max()) for name in one)


@pytest.mark.parametrize(
    ("precision", "error"), [("float32", 0), ("float16", 2e-3), ("int8", 2e-2)]
)
def test_a_bundle_gives_back_what_was_saved(tmp_path, precision, error):
    two = manifest(
        MemberManifest(architecture="tiny", input_size=32, mean=(0.5, 0.5, 0.5)),
        MemberManifest(architecture="tiny", input_size=64, options={"width": 8}),
    )
    states = [tiny(0), tiny(1, width=8)]
    written = save_bundle(tmp_path / "b", two, states, precision)
    bundle = load_bundle(tmp_path / "b")
    assert bundle.manifest == written
    assert bundle.manifest.classes == ("cat", "dog")
    assert bundle.manifest.members[0].normalisation.mean == (0.5, 0.5, 0.5)
    assert [m.stored_as for m in written.members] == [precision] * 2
    for model, state in zip(bundle.models, states, strict=True):
        assert not model.training
        assert not any(values.requires_grad for values in model.parameters())
        assert largest_difference(model.state_dict(), state) <= error
    assert len(load_bundle(tmp_path / "b", members=1).models) == 1
    for number in (0, 3):
        asked = f"{number} of its members were asked for; it has 2"
        with pytest.raises(SettingsError, match=asked):
            load_bundle(tmp_path / "b", members=number)


def test_a_file_is_named_by_network_size_and_the_first_digits_of_its_hash(tmp_path):
    folder = tmp_path / "new" / "b"
    (member,) = save_bundle(folder, manifest(), [tiny()]).members
    data = (folder / member.file).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    assert (member.file, member.bytes) == (f"tiny-32-{digest[:12]}.safetensors", len(data))
    assert member.sha256 == digest


def test_a_prior_of_sizes_comes_back_and_a_bad_one_is_refused(tmp_path):
    prior = SizePrior(sides=(0.1, 0.5), log_odds=(-4.0, 0.5))
    sized = manifest().model_copy(update={"prior": prior})
    save_bundle(tmp_path / "b", sized, [tiny()])
    assert load_bundle(tmp_path / "b").manifest.prior == prior
    path = tmp_path / "b" / "bundle.json"
    path.write_text(path.read_text().replace("-4.0", "-400.0"))
    with pytest.raises(BundleError, match=r"bundle\.json: prior.*log_odds"):
        load_bundle(tmp_path / "b")


def test_a_network_that_the_file_cannot_hold_is_refused_before_it_is_made(tmp_path):
    member = MemberManifest(architecture="tiny", input_size=64)
    save_bundle(tmp_path, manifest(member), [tiny()])
    text = (tmp_path / "bundle.json").read_text()
    whole = json.loads(text)
    whole["members"][0]["options"] = {"width": 10**8}  # 11 GB
    (tmp_path / "bundle.json").write_text(json.dumps(whole))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError, match="has shape"):
        load_bundle(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_eight_bits_by_hand():
    """Largest magnitude 2.54 gives a scale of 0.02: 1.0 is 50 steps, 0.029 rounds to one."""
    values, scale = quantise(torch.tensor([[-2.54, 1.0, 0.029], [0.0, 0.0, 0.0]]))
    assert values.tolist() == [[-127, 50, 1], [0, 0, 0]]
    assert scale[0].item() == pytest.approx(0.02)
    assert torch.isfinite(scale).all()


def test_only_kernels_and_matrices_are_rounded():
    state = tiny()
    back = decode(encode(state, "int8"), "x")
    assert back.keys() == state.keys()
    assert torch.equal(back["bn.running_mean"], state["bn.running_mean"])
    step = state["conv.weight"].flatten(1).abs().amax(1) / 127
    error = (back["conv.weight"] - state["conv.weight"]).flatten(1).abs().amax(1)
    assert (error <= step / 2 * 1.001).all()
    assert error.max() > 0


def test_saving_again_replaces_the_bundle_and_leaves_other_files_alone(tmp_path):
    save_bundle(tmp_path, manifest(), [tiny(0)])
    (tmp_path / "README.md").write_text("mine")
    first = {path.name for path in tmp_path.iterdir()}
    save_bundle(tmp_path, manifest(), [tiny(1)])
    second = {path.name for path in tmp_path.iterdir()}
    assert len(first) == len(second) == 3
    assert first & second == {"bundle.json", "README.md"}
    assert largest_difference(load_bundle(tmp_path).models[0].state_dict(), tiny(1)) < 2e-3


def write_failing_at(number, error):
    """As write_atomically, but the write of this number fails, and those after it."""
    real, calls = detector.detection.bundle.writing.write_atomically, []

    def write(path, data):
        calls.append(path)
        if len(calls) > number:
            raise error
        real(path, data)

    return write


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_a_kill_leaves_the_old_bundle(tmp_path, monkeypatch, number, error):
    save_bundle(tmp_path, manifest(), [tiny(0)], "float32")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    failing = write_failing_at(number, error)
    monkeypatch.setattr(detector.detection.bundle.writing, "write_atomically", failing)
    full = isinstance(error, OSError)
    with pytest.raises(
        BundleError if full else KeyboardInterrupt, match="No space left" if full else None
    ):
        save_bundle(tmp_path, manifest(), [tiny(1)])
    assert largest_difference(load_bundle(tmp_path).models[0].state_dict(), tiny(0)) == 0
    if full:  # who is killed cannot tidy up
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_full_disk_leaves_files_that_old_and_new_bundle_share(tmp_path, monkeypatch):
    """The same weights again: their file is written in its own place, and stays."""
    save_bundle(tmp_path, manifest(), [tiny(0)])
    failing = write_failing_at(1, OSError(28, "No space left on device"))  # the manifest
    monkeypatch.setattr(detector.detection.bundle.writing, "write_atomically", failing)
    with pytest.raises(BundleError, match="No space left"):
        save_bundle(tmp_path, manifest(), [tiny(0)])
    assert largest_difference(load_bundle(tmp_path).models[0].state_dict(), tiny(0)) < 2e-3


def test_a_damaged_bundle_in_the_folder_is_replaced_and_its_files_are_left(tmp_path):
    save_bundle(tmp_path, manifest(), [tiny(0)])
    (tmp_path / "bundle.json").write_text("hello")
    save_bundle(tmp_path, manifest(), [tiny(1)])
    assert largest_difference(load_bundle(tmp_path).models[0].state_dict(), tiny(1)) < 2e-3
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_what_cannot_be_loaded_is_not_saved(tmp_path):
    folder = tmp_path / "b"
    bad = tiny() | {"conv.bias": torch.tensor([1.0, float("inf"), 0, 0])}
    with pytest.raises(BundleError, match=r"conv.bias has values that are not finite"):
        save_bundle(folder, manifest(), [bad])
    with pytest.raises(BundleError, match=r"conv.weight has shape \(8, 3, 3, 3\), expected \(4"):
        save_bundle(folder, manifest(), [tiny(width=8)])
    with pytest.raises(BundleError, match="1 members but 2"):
        save_bundle(folder, manifest(), [tiny(), tiny()])
    with pytest.raises(BundleError, match="too large for float16"):
        save_bundle(folder, manifest(), [tiny() | {"conv.weight": torch.full((4, 3, 3, 3), 1e6)}])
    assert not folder.exists()


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "b").write_text("a file")
    with pytest.raises(BundleError, match="cannot be written"):
        save_bundle(tmp_path / "b", manifest(), [tiny()])
    with pytest.raises(BundleError, match=r"no bundle.json"):
        load_bundle(tmp_path / "b")


def spoil_json(folder, change):
    tree = json.loads((folder / "bundle.json").read_text())
    change(tree)
    (folder / "bundle.json").write_text(json.dumps(tree))


def spoil_bytes(folder, change, *, honest):
    """Rewrite the member's file; `honest`: the manifest tells its new size and hash."""
    (path,) = folder.glob("*.safetensors")
    data = change(path.read_bytes())
    path.write_bytes(data)
    if honest:
        facts = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        spoil_json(folder, lambda tree: tree["members"][0].update(facts))


def member(**changes):
    return lambda folder: spoil_json(folder, lambda tree: tree["members"][0].update(changes))


def top(**changes):
    return lambda folder: spoil_json(folder, lambda tree: tree.update(changes))


def tensors(change):
    def changed(data):
        values = load(data)
        change(values)
        return save(values)

    return lambda folder: spoil_bytes(folder, changed, honest=True)


def text(content):
    return lambda folder: (folder / "bundle.json").write_text(content)


def huge_header(data: bytes) -> bytes:
    return (2**62).to_bytes(8, "little") + data[8:]


def header(change):
    """A file whose header is changed and nothing else of it, with its right hash."""

    def changed(data: bytes) -> bytes:
        length = int.from_bytes(data[:8], "little")
        told = json.loads(data[8 : 8 + length])
        change(told)
        text = json.dumps(told).encode()
        return len(text).to_bytes(8, "little") + text + data[8 + length :]

    return lambda folder: spoil_bytes(folder, changed, honest=True)


BAD = {
    "no manifest": (lambda f: (f / "bundle.json").unlink(), r"no bundle\.json"),
    "not JSON": (text("hello"), r"bundle\.json: not a bundle"),
    "a list": (text("[1]"), r"bundle\.json: not a bundle"),
    "deep": (text("[" * 100_000), r"bundle\.json: not a bundle"),
    "binary": (lambda f: (f / "bundle.json").write_bytes(b"\xff\xfe\x00"), "not a bundle"),
    "newer format": (top(format_version=7), "format version 7"),
    "unknown key": (top(colour="red"), "colour"),
    "no classes": (top(classes=[]), "classes"),
    "same class twice": (top(classes=["cat", "cat"]), "distinct"),
    "class too many": (top(classes=["a", "b", "c"]), r"classifier\.weight has shape \(3, 4\)"),
    "threshold out of range": (top(thresholds={"nms": 1.5}), r"thresholds\.nms"),
    "NaN metric": (text('{"format_version": 1, "metrics": {"mAP": NaN}}'), "bundle"),
    "no members": (top(members=[]), "members"),
    "unknown architecture": (member(architecture="resnet9000"), "resnet9000.*known"),
    "unknown option": (member(options={"depth": 3}), "depth"),
    "way out": (member(file="../tiny.safetensors"), r"members\.0\.file"),
    "absolute": (member(file="/etc/passwd.safetensors"), r"members\.0\.file"),
    "dots": (member(file="a..safetensors"), r"members\.0\.file"),
    "absent file": (member(file="absent.safetensors"), r"absent\.safetensors: missing"),
    "no file": (member(file=""), "missing"),
    "zero std": (member(std=[1, 0, 1]), "std"),
    "input size": (member(input_size=0), "input_size"),
    "truncated": (lambda f: spoil_bytes(f, lambda d: d[:-4], honest=False), "bytes, expected"),
    "one bit": (
        lambda f: spoil_bytes(f, lambda d: d[:-1] + bytes([d[-1] ^ 1]), honest=False),
        "SHA-256",
    ),
    "not safetensors": (
        lambda f: spoil_bytes(f, lambda d: b"PK\3\4" + d[4:], honest=True),
        "not a safetensors file",
    ),
    "huge header": (lambda f: spoil_bytes(f, huge_header, honest=True), "not a safetensors"),
    "empty file": (lambda f: spoil_bytes(f, lambda d: b"", honest=True), "not a safetensors"),
    "missing tensor": (tensors(lambda t: t.pop("bn.weight")), r"bn\.weight is missing"),
    "foreign tensor": (tensors(lambda t: t.update(extra=torch.zeros(2))), "extra does not belong"),
    "wrong shape": (
        tensors(lambda t: t.update({"conv.weight": torch.zeros(4, 3, 5, 5)})),
        r"conv\.weight has shape \(4, 3, 5, 5\), expected \(4, 3, 3, 3\)",
    ),
    "not finite": (
        tensors(lambda t: t["bn.bias"].fill_(float("nan"))),
        r"bn\.bias has values that are not finite",
    ),
    "bytes without a scale": (
        tensors(lambda t: t.update({"conv.weight": t["conv.weight"].to(torch.int8)})),
        r"conv\.weight is stored in 8 bits, without conv\.weight\.scale",
    ),
    "a bias in bytes": (
        tensors(lambda t: t.update({"bn.bias": t["bn.bias"].to(torch.int8)})),
        r"bn\.bias is stored in 8 bits",
    ),
    "strange type": (
        tensors(lambda t: t.update({"bn.bias": t["bn.bias"].double()})),
        r"bn\.bias is stored as 'F64'",
    ),
    "a type that is a list": (header(lambda h: h["bn.bias"].update(dtype=["F32"])), "stored as"),
    "a shape of one huge number": (
        header(lambda h: h["bn.bias"].update(shape=[10**400])),
        r"bn\.bias has shape .{9,200}, expected",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_bundle_is_refused_by_name(case, tmp_path):
    spoil, words = BAD[case]
    save_bundle(tmp_path, manifest(), [tiny()])
    load_bundle(tmp_path)
    spoil(tmp_path)
    with pytest.raises(BundleError, match=words) as caught:
        load_bundle(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_an_oversized_manifest_is_not_parsed(tmp_path):
    written = save_bundle(tmp_path, manifest(), [tiny()])
    text = (tmp_path / "bundle.json").read_text()
    (tmp_path / "bundle.json").write_text(text.ljust(4 * 2**20))
    assert read_manifest(tmp_path) == written
    (tmp_path / "bundle.json").write_text(" " * (4 * 2**20 + 1))
    with pytest.raises(BundleError, match="larger than"):
        read_manifest(tmp_path)


def test_activation_ranges_are_added_without_touching_the_weights(tmp_path):
    save_bundle(tmp_path, manifest(), [tiny()])
    weights = {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    set_activation_ranges(tmp_path, [{"conv1": 3.5}])
    assert load_bundle(tmp_path).manifest.members[0].activation_ranges == {"conv1": 3.5}
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")} == weights
    with pytest.raises(BundleError, match="1 members but 2"):
        set_activation_ranges(tmp_path, [{}, {}])
