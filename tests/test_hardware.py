"""Devices, cores and number formats go by name, and are those that are there."""

import os

import pytest
import torch

from detector.detection.load import load_detector
from detector.errors import SettingsError
from detector.hardware import choose_device, choose_precision, has_fast_bfloat16, usable_cores


def test_devices_and_number_formats_go_by_name():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_precision("float32", torch.device("cpu")) == torch.float32
    fast = has_fast_bfloat16(torch.device("cpu"))
    expected = torch.bfloat16 if fast else torch.float32
    assert choose_precision("auto", torch.device("cpu")) == expected
    for choose in (choose_device, lambda name: load_detector(device=name)):
        with pytest.raises(SettingsError, match=r"^device abacus: .*; try auto or cpu$"):
            choose("abacus")
    with pytest.raises(SettingsError, match="float32"):
        choose_precision("int3", torch.device("cpu"))


def test_emulated_bfloat16_is_not_fast_for_networks_either(monkeypatch):
    from detector.models.inference.prepare import fastest_precision

    def supported(including_emulation: bool = True) -> bool:
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert fastest_precision("cuda") == "float32"
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert fastest_precision("cpu") == "float32"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert fastest_precision("cpu") == "bfloat16"
    assert has_fast_bfloat16(torch.device("cpu"))


def test_each_process_of_torchrun_has_a_card_of_its_own(monkeypatch):
    second = {"WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", second) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)  # there is no card to try
    for name in ("auto", "cuda"):
        assert choose_device(name, second) == torch.device("cuda:1")
    assert choose_device("cuda:0", second) == torch.device("cuda:0")
    assert choose_device("cuda") == torch.device("cuda")


@pytest.mark.parametrize(
    ("limit", "cores"), [("150000", 1), ("50000", 1), ("300000", 3), ("max", 8)]
)
def test_a_containers_share_of_the_processors_counts(limit, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "cpu.max").write_text(f"{limit} 100000\n")
    assert usable_cores(tmp_path) == cores
