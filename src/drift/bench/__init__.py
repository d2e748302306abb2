"""The figures that the README quotes: one file per `drift bench` command. `machine` describes the computer."""

import os
import platform
from importlib import metadata
from pathlib import Path


def machine(*packages: str) -> dict[str, str]:
    """Processor, cores, how many processes wanted them in the last minute (`load`), and versions of the packages."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    load = f"{os.getloadavg()[0]:.1f}"
    versions = {name: metadata.version(name) for name in packages}
    return {"cpu": model, "cores": str(os.cpu_count()), "load": load, "python": platform.python_version(), **versions}
