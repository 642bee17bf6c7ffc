"""A GPU's peak is found by the name that its driver gives it; of one that nobody knows there is none."""

from __future__ import annotations

import pytest

from noria.hardware.peaks import peak


@pytest.mark.parametrize(
    ("device", "precision", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4),
        ("NVIDIA H100 PCIe", "bf16", 756),
        ("NVIDIA H100 NVL", "fp8", 1671),
        ("NVIDIA H200", "bf16", 989.5),
        ("NVIDIA GH200 480GB", "bf16", 989.5),
        ("NVIDIA A100-SXM4-80GB", "tf32", 156),
        ("NVIDIA A100-SXM4-80GB", "fp8", 0),
        ("NVIDIA A10", "bf16", 125),
        ("NVIDIA L40S", "bf16", 362),
        ("NVIDIA L4", "fp32", 30.3),
        ("Tesla V100-SXM2-32GB", "fp16", 125),
        ("Tesla V100-PCIE-32GB", "fp16", 112),
        ("Tesla V100-SXM2-32GB", "bf16", 0),
        ("NVIDIA GeForce RTX 3090", "bf16", 71),
        ("NVIDIA B200", "bf16", 2250),
        ("AMD Instinct MI300X", "bf16", 1307.4),
        ("NVIDIA H1000", "bf16", 0),
        ("", "bf16", 0),
    ],
)
def test_the_peak_of_a_device(device: str, precision: str, tflops: float) -> None:
    assert peak(device, precision) == pytest.approx(1e12 * tflops)
