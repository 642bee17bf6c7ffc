"""What GPUs do, from NVML (the package nvidia-ml-py) or amdsmi, whichever is installed and finds a device; else nothing is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from msgspec import Struct

Reader = Callable[[], dict[str, float]]


class Reading(Struct, frozen=True):
    """One GPU at one moment; None for what it does not tell. Memory in bytes, power in watts, utilization in percent."""

    utilization: float | None = None
    used: float | None = None
    total: float | None = None
    watts: float | None = None
    limit: float | None = None
    celsius: float | None = None


def named(index: int, reading: Reading) -> dict[str, float]:
    """A reading under MLflow's names, which knows no temperature; a megabyte is 1e6 bytes there."""
    values = {
        "utilization_percentage": reading.utilization,
        "memory_usage_megabytes": reading.used / 1e6 if reading.used is not None else None,
        "memory_usage_percentage": _share(reading.used, reading.total),
        "power_usage_watts": reading.watts,
        "power_usage_percentage": _share(reading.watts, reading.limit),
        "temperature_celsius": reading.celsius,
    }
    return {f"gpu_{index}_{name}": round(value, 1) for name, value in values.items() if value is not None}


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole * 100


def reader(visible: Sequence[str] | None = None) -> Reader:
    """What reads the GPUs, numbered as the job sees them.

    visible: their ids as CUDA_VISIBLE_DEVICES has them; None for all of the machine.
    """
    for find in (_nvidia, _amd):
        try:
            devices = find(visible)
        except Exception:  # noqa: S112 (not installed, no driver, no device: what the packages raise differs)
            continue
        if devices:
            return partial(_all, devices)
    return dict


def _all(devices: Sequence[Callable[[], Reading]]) -> dict[str, float]:
    return {name: value for index, read in enumerate(devices) for name, value in named(index, read()).items()}


def _try(function: Callable[..., Any], *args: Any) -> Any:
    """A value, or None where this device or driver does not tell."""
    try:
        return function(*args)
    except Exception:
        return None


def _nvidia(visible: Sequence[str] | None) -> list[Callable[[], Reading]]:
    import pynvml as nvml

    nvml.nvmlInit()
    ids = [str(index) for index in range(nvml.nvmlDeviceGetCount())] if visible is None else visible
    handles = [nvml.nvmlDeviceGetHandleByIndex(int(gpu)) if gpu.isdigit() else nvml.nvmlDeviceGetHandleByUUID(gpu) for gpu in ids]
    return [partial(_nvidia_reading, nvml, handle) for handle in handles]


def _nvidia_reading(nvml: Any, handle: Any) -> Reading:
    rates, memory = _try(nvml.nvmlDeviceGetUtilizationRates, handle), _try(nvml.nvmlDeviceGetMemoryInfo, handle)
    power, limit = _try(nvml.nvmlDeviceGetPowerUsage, handle), _try(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    return Reading(
        rates.gpu if rates is not None else None,
        memory.used if memory is not None else None,
        memory.total if memory is not None else None,
        power / 1000 if power is not None else None,
        limit / 1000 if limit is not None else None,
        _try(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
    )


def _amd(visible: Sequence[str] | None) -> list[Callable[[], Reading]]:
    import amdsmi

    amdsmi.amdsmi_init()
    handles = amdsmi.amdsmi_get_processor_handles()
    chosen = handles if visible is None else [handles[int(gpu)] for gpu in visible]
    return [partial(_amd_reading, amdsmi, handle) for handle in chosen]


def _amd_reading(amdsmi: Any, handle: Any) -> Reading:
    kinds, metric = amdsmi.AmdSmiTemperatureType, amdsmi.AmdSmiTemperatureMetric.CURRENT
    heat = _number(_try(amdsmi.amdsmi_get_temp_metric, handle, kinds.HOTSPOT, metric))
    return amd(
        _try(amdsmi.amdsmi_get_gpu_activity, handle), _try(amdsmi.amdsmi_get_gpu_vram_usage, handle),
        _try(amdsmi.amdsmi_get_power_info, handle), heat)  # fmt: skip


def amd(
    activity: dict[str, Any] | None, memory: dict[str, Any] | None, power: dict[str, Any] | None, heat: float | None
) -> Reading:
    """What amdsmi's three dictionaries say: memory in MiB, power in watts, "N/A" for what there is not.

    The limit of the power is left out: its unit is not the same in all releases.
    """
    activity, memory, power = activity or {}, memory or {}, power or {}
    used, total = _number(memory.get("vram_used")), _number(memory.get("vram_total"))
    watts = _number(power.get("current_socket_power")) or _number(power.get("average_socket_power"))
    return Reading(
        _number(activity.get("gfx_activity")),
        used * 2**20 if used is not None else None,
        total * 2**20 if total is not None else None,
        watts,
        None,
        heat,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
