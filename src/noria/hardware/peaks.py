"""What a GPU can compute at most: dense, with sums in fp32, as its maker says. A device that is not here has no utilisation, rather than a guess.

Sheets often print figures for matrices half of which are zeros, or for sums in fp16: these are twice as high, and nobody trains so.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Peak(NamedTuple):
    """10^12 operations a second; 0 where it cannot. tf32 is half of bf16 on what has tensor cores for both."""

    bf16: float
    fp16: float
    fp8: float
    fp32: float

    def of(self, precision: str) -> float:
        return self.bf16 / 2 if precision == "tf32" else float(getattr(self, precision, 0.0))


_PEAKS: dict[str, Peak] = {
    "P100": Peak(0, 21.2, 0, 10.6),
    "V100.*PCIE": Peak(0, 112, 0, 14.0),
    "V100": Peak(0, 125, 0, 15.7),
    "T4": Peak(0, 65, 0, 8.1),
    "RTX 2080 Ti": Peak(0, 53.8, 0, 13.4),
    "A100": Peak(312, 312, 0, 19.5),
    "A30": Peak(165, 165, 0, 10.3),
    "A40": Peak(149.7, 149.7, 0, 37.4),
    "A10": Peak(125, 125, 0, 31.2),
    "RTX A6000": Peak(154.8, 154.8, 0, 38.7),
    "RTX 3090": Peak(71, 71, 0, 35.6),
    "RTX 3080": Peak(59.5, 59.5, 0, 29.8),
    "L4": Peak(121, 121, 242.5, 30.3),
    "L40S": Peak(362, 362, 733, 91.6),
    "L40": Peak(181, 181, 362, 90.5),
    "RTX 6000 Ada": Peak(364.2, 364.2, 728.5, 91.1),
    "RTX 4080": Peak(97.5, 97.5, 195, 48.7),
    "RTX 4090": Peak(165.2, 165.2, 330.3, 82.6),
    "H100 PCIe": Peak(756, 756, 1513, 51.2),
    "H100 NVL": Peak(835.5, 835.5, 1671, 60),
    "H100": Peak(989.4, 989.4, 1978.9, 66.9),
    "H200 NVL": Peak(835.5, 835.5, 1671, 60),
    "H200": Peak(989.5, 989.5, 1979, 66.9),
    "GH200": Peak(989.5, 989.5, 1979, 66.9),
    "H20": Peak(148, 148, 296, 44),
    "B200": Peak(2250, 2250, 4500, 62),
    "GB200": Peak(2500, 2500, 5000, 80),
    "B300": Peak(2250, 2250, 4500, 75),
    "RTX 5080": Peak(112.6, 112.6, 225.1, 56.3),
    "RTX 5090": Peak(209.5, 209.5, 419, 104.8),
    "RTX PRO 6000": Peak(503.8, 503.8, 1007.6, 125),
    "MI100": Peak(92.3, 184.6, 0, 23.1),
    "MI210": Peak(181, 181, 0, 22.6),
    "MI250X": Peak(191.5, 191.5, 0, 23.9),
    "MI300A": Peak(980.6, 980.6, 1961.2, 122.6),
    "MI300X": Peak(1307.4, 1307.4, 2614.9, 163.4),
    "MI325X": Peak(1307.4, 1307.4, 2614.9, 163.4),
    "MI350X": Peak(2309.6, 2309.6, 4614, 144.2),
    "MI355X": Peak(2516.6, 2516.6, 5033, 157.3),
    "RX 7900 XTX": Peak(122.8, 122.8, 0, 61.4),
}
"""By words of the name that the driver gives a device; the more special ones first. Sources: the makers' data sheets, read in 2026."""


def peak(device: str, precision: str) -> float:
    """Operations a second of the device of this name ("NVIDIA H100 80GB HBM3") in this precision (fp32, tf32, bf16, fp16, fp8); 0 if unknown."""
    for words, found in _PEAKS.items():
        if re.search(rf"(?<![A-Za-z0-9]){words}(?![A-Za-z0-9])", device, re.IGNORECASE):
            return 1e12 * found.of(precision)
    return 0.0
