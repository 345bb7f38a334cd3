"""The machine that a measurement was made on."""

import os
import platform
import re
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")  # on Linux alone


def processor() -> str:
    """The processor's name and its number of cores. On Linux with its family and model, since several generations
    can share a name."""
    names, families, models = (_values(field) for field in ("model name", "cpu family", "model"))
    generation = f" (family {families[0]}, model {models[0]})" if families and models else ""
    return f"{names[0] if names else platform.processor() or platform.machine()}{generation}, {os.cpu_count()} cores"


def manufacturer() -> str:
    """The processor's maker as it names itself, "AuthenticAMD" or "GenuineIntel"; "" where that is not known."""
    names = _values("vendor_id")
    return names[0] if names else ""


def multiplies_bfloat16() -> bool:
    """Whether the processor is known to multiply matrices of bfloat16 itself, by AVX-512 BF16 or AMX: without them an
    x86 processor emulates that, slower than float32. Linux alone lists them."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(_listed().split())


def _values(field: str) -> list[str]:
    """A field of each core."""
    return re.findall(rf"^{field}\s*: (.*)", _listed(), re.MULTILINE)


def _listed() -> str:
    return CPUINFO.read_text() if CPUINFO.exists() else ""
