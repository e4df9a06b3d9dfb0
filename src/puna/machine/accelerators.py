"""Signs of an accelerator, found without loading anything: files of drivers. It knows no library."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

DRIVERS = {
    "nvidiactl": "an NVIDIA driver",
    "kfd": "an AMD driver (ROCm)",
    "dxg": "a driver of Windows' GPU",
    "dri/renderD128": "a graphics driver",
}
"""Files under /dev: what each is a sign of."""


def sign_of_accelerator(dev: Path = Path("/dev")) -> str:
    """What speaks for one, or nothing."""
    if sys.platform == "darwin":
        return "an Apple GPU" if platform.machine() == "arm64" else ""
    if sys.platform == "win32":
        return DRIVERS["nvidiactl"] if shutil.which("nvidia-smi") else ""
    return next((what for name, what in DRIVERS.items() if (dev / name).exists()), "")
