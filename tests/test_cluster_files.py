"""The files of configs/cluster are what Ray, Slurm and Kubernetes read."""

import importlib.util
import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[1] / "configs" / "cluster"
STUB = """#!/bin/bash
[ "$1 $2" = "status --address" ] && echo " 1 node_a" && echo " 1 node_b" && exit
[ "$1" = show ] && echo "n1" && echo "n2" && exit
echo "$(basename "$0") $*" >> "$LOG"
"""


def test_the_file_for_ray_up_fits_rays_own_schema():
    ray = importlib.util.find_spec("ray")
    jsonschema = pytest.importorskip("jsonschema")
    if ray is None or ray.origin is None:
        pytest.skip("ray is not installed: pip install 'drift-training[ray]'")
    schema = json.loads((Path(ray.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = yaml.safe_load((FOLDER / "aws.yaml").read_text())
    jsonschema.validate(cluster, schema)
    assert cluster["head_node_type"] in cluster["available_node_types"]
    assert (
        sum(kind.get("min_workers", 0) for kind in cluster["available_node_types"].values()) <= cluster["max_workers"]
    )
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster | {"nodes": 3}, schema)


def test_every_node_of_kubernetes_has_the_same_storage_and_enough_shared_memory():
    job = yaml.safe_load((FOLDER / "kuberay.yaml").read_text())
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert (job["apiVersion"], job["kind"], len(groups)) == ("ray.io/v1", "RayJob", 2)
    for group in groups:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]} == {
            "shared": "/shared",
            "shm": "/dev/shm",
        }
        assert {volume["name"] for volume in pod["volumes"]} == {"shared", "shm"}
        assert container["resources"]["requests"] == container["resources"]["limits"]
    assert "--set cluster.address=$RAY_ADDRESS" in job["spec"]["entrypoint"]


def test_the_script_for_slurm_starts_a_head_and_workers_and_then_the_run(tmp_path: Path):
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("srun", "scontrol", "ray", "drift"):
        (commands / name).write_text(STUB)
        (commands / name).chmod(0o755)
    log = tmp_path / "log"
    slurm = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "32"}
    environment = {"PATH": f"{commands}:{os.environ['PATH']}", "LOG": str(log), **slurm}
    script = ["bash", str(FOLDER / "slurm.sh"), "config.yaml", "/shared/run", "/shared/store"]
    subprocess.run(script, env=environment, check=True, timeout=60)
    deadline = time.monotonic() + 60
    while len(log.read_text().splitlines()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)  # the workers start in the background
    head, workers, run = sorted(
        log.read_text().splitlines(), key=lambda line: (line.startswith("drift"), "--head" not in line)
    )
    assert head.startswith(
        "srun --overlap --nodes=1 --ntasks=1 --nodelist=n1 ray start --head --port=20007 --num-cpus=32"
    )
    assert workers.startswith("srun --overlap --nodes=1 --ntasks=1 --exclude=n1 ray start --address n1:20007")
    assert run == "drift run config.yaml --out /shared/run --set store=/shared/store --set cluster.address=n1:20007"
