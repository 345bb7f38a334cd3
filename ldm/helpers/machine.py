"""The machine that a measurement was made on."""

import os
import platform
import re
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")  # on Linux alone


def processor() -> str:
    """The processor's name and its number of cores. On Linux with its family and model, for a name may be that of
    several generations."""
    names, families, models = (_values(field) for field in ("model name", "cpu family", "model"))
    generation = f" (family {families[0]}, model {models[0]})" if families and models else ""
    return f"{names[0] if names else platform.processor()}{generation}, {os.cpu_count()} cores"


def manufacturer() -> str:
    """The processor's maker as it names itself, "AuthenticAMD" or "GenuineIntel"; "" where that is not known."""
    names = _values("vendor_id")
    return names[0] if names else ""


def multiplies_bfloat16() -> bool:
    """Whether the processor multiplies matrices of bfloat16 itself (AVX-512 BF16 or AMX): elsewhere that is emulated,
    slower than float32. Known on Linux alone."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(_listed().split())


def _values(field: str) -> list[str]:
    """A field of each core."""
    return re.findall(rf"^{field}\s*: (.*)", _listed(), re.MULTILINE)


def _listed() -> str:
    return CPUINFO.read_text() if CPUINFO.exists() else ""
