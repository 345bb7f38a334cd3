"""The machine that a measurement was made on."""

import os
import platform
import re
from pathlib import Path


def processor() -> str:
    """The processor's name and its number of cores."""
    listed = Path("/proc/cpuinfo")  # on Linux alone; elsewhere Python knows the name
    names = re.findall(r"model name\s*: (.*)", listed.read_text()) if listed.exists() else []
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
