"""What a result was measured on."""

import platform
from pathlib import Path

import torch

import surefoot


def machine() -> dict[str, str]:
    """Processor, cores and versions, for a column each in a CSV."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "surefoot": surefoot.__version__,
    }
