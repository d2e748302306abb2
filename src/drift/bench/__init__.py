"""Benchmarks whose figures the docs quote: one file per `drift bench` command."""

import os
import platform
from importlib import metadata
from pathlib import Path


def machine(*packages: str) -> dict[str, str]:
    """Describe the computer: processor, cores, load average of the last minute, Python, versions of `packages`."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    load = f"{os.getloadavg()[0]:.1f}"
    versions = {name: metadata.version(name) for name in packages}
    return {"cpu": model, "cores": str(os.cpu_count()), "load": load, "python": platform.python_version(), **versions}
