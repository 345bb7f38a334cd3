"""The machine that a measurement was made on."""

import os
import platform
import re
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")  # on Linux alone


def processor() -> str:
    """The processor's name and its number of cores."""
    names = re.findall(r"model name\s*: (.*)", _listed())  # elsewhere Python knows the name
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def manufacturer() -> str:
    """The processor's maker as it names itself, "AuthenticAMD" or "GenuineIntel"; "" where that is not known."""
    names = re.findall(r"vendor_id\s*: (.*)", _listed())
    return names[0] if names else ""


def multiplies_bfloat16() -> bool:
    """Whether the processor multiplies matrices of bfloat16 itself (AVX-512 BF16 or AMX): elsewhere that is emulated,
    slower than float32. Known on Linux alone."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(_listed().split())


def _listed() -> str:
    return CPUINFO.read_text() if CPUINFO.exists() else ""
