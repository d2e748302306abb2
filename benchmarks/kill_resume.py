"""SIGKILL at random moments of a whole run, the same command again each time, and what is left at the end.

    python benchmarks/kill_resume.py --kills 25 --json

One run is left alone, and tells when each of its stages began and how long it took. Moments are drawn uniformly over
that time; for each of them the same command on a second folder is started, waited for until the stage of that moment
has been at work for as long, and killed. Every command takes another number of OMP threads from its environment. At the
end the second folder's pairs, weights, completions and evaluations are compared byte by byte with the first's, and its
report without the fields that tell the time.

Commands run in processes forked from one that has imported the libraries, so that a kill falls into work and not into
imports.
"""

import argparse
import json
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import yaml

from drift.rundir import load_run
from drift.store.folder import Folder, StoreManifest

PATIENCE = 600.0
COMPARED = ("*.jsonl", "*.safetensors", "*evaluation.json", "tokenizer.json", "funnel.json", "report.html")
TIMED = ("report.html", "metrics.jsonl")
CLOCKS = re.compile(
    r'started [-0-9]{10} [0-9:]{5}|(?<=</td><td class="n">)[0-9.]+(?=</td>\n)'
    r'|[\w ]*second[\w ]*&nbsp;[0-9.,]+|"[^"]*(second|time)[^"]*":[^,}]*'
)
"""What tells the time in report.html (when the run began, each stage's seconds) and in metrics.jsonl."""
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["drift.run", "drift.loop", "drift.report"])  # drift.run alone loads no torch


@dataclass(frozen=True, slots=True)
class Moment:
    """`after` seconds of work on `stage`; None is what comes before the first stage (reading and labelling logs)."""

    stage: str | None
    after: float


@dataclass(frozen=True, slots=True)
class Outcome:
    kills: int
    identical: bool
    differing: list[str]
    stages_killed_in: dict[str, int]
    seconds_uninterrupted: float
    seed: int


def kill_and_resume(logs: Path, folder: Path, kills: int, seed: int, config: dict) -> Outcome:
    """Both runs lie in `folder`, as whole/ and killed/."""
    file = folder / "run.yaml"
    file.write_text(
        yaml.safe_dump({**config, "name": "kill", "logs": [str(logs)], "store": "store", "threads": 1}),
        encoding="utf-8",
    )
    warm = CONTEXT.Process(target=os.getpid)  # the server that forks the others imports the libraries first
    warm.start()
    warm.join()
    whole, killed = folder / "whole" / "run", folder / "killed" / "run"
    for run in (whole, killed):
        (run.parent / "store").mkdir(parents=True)
        Folder(run.parent / "store").save(StoreManifest(salt="the same in both, so that users have the same names"))
    begun = time.time()
    finish(command(file, whole, 1), whole)
    draw = random.Random(seed)
    moments = moments_of(whole, begun, kills, draw)
    killed_in: dict[str, int] = {}
    while moments:
        stage = kill_at(command(file, killed, draw.choice((1, 2))), killed, moments.pop(0))
        if stage is None:  # the command was through before: another moment, among the reused stages
            moments.append(Moment(None, draw.uniform(0, 1)))
        else:
            killed_in[stage] = killed_in.get(stage, 0) + 1
    finish(command(file, killed, 1), killed)
    differing = differences(whole, killed)
    spent = sum(stage.wall_seconds for stage in load_run(whole).stages)
    return Outcome(sum(killed_in.values()), not differing, differing, killed_in, round(spent, 1), seed)


def command(config: Path, out: Path, threads: int) -> "multiprocessing.process.BaseProcess":
    """`drift run CONFIG --out OUT` in a process of its own."""
    process = CONTEXT.Process(target=_run, args=(str(config), str(out), threads))
    process.start()
    return process


def finish(process: "multiprocessing.process.BaseProcess", run: Path) -> None:
    process.join()
    if process.exitcode:
        raise SystemExit(f"the run failed: {Path(f'{run}.log').read_text()[-2000:]}")


def _run(config: str, out: str, threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    from drift.cli import main

    torch.set_num_threads(threads)
    os.chdir(Path(out).parent)  # for both runs the store is `store` and the folder `run`
    log = os.open(f"{out}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["drift", "run", config, "--out", Path(out).name]
    main()


def moments_of(run: Path, begun: float, count: int, draw: random.Random) -> list[Moment]:
    """Uniform over the run's time, in the order in which a resumed run comes to them."""
    stages = load_run(run).stages
    first = datetime.fromisoformat(stages[0].started_at).timestamp()
    spans = [(None, first - begun), *((stage.name, stage.wall_seconds) for stage in stages)]
    total = sum(span for _, span in spans)
    found = []
    for point in sorted(draw.uniform(0, total) for _ in range(count)):
        for name, span in spans:
            if point < span:
                found.append(Moment(name, point))
                break
            point -= span
    return found


def kill_at(process: "multiprocessing.process.BaseProcess", run: Path, moment: Moment) -> str | None:
    """Kill once the moment's stage has been at work for so long; returns where the command was, None: at its end."""
    deadline = time.monotonic() + PATIENCE
    while moment.stage is not None and process.is_alive() and not _has_reached(run, moment.stage):
        if time.monotonic() > deadline:
            raise SystemExit(f"the run did not come to {moment.stage} in {PATIENCE:g} s")
        time.sleep(0.005)
    process.join(moment.after)
    process.kill()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        if process.exitcode:
            finish(process, run)
        return None
    stage = _state(run).get("stage")
    return str(stage or "before the first stage")


def _has_reached(run: Path, stage: str) -> bool:
    state = _state(run)
    return state.get("stage") == stage or stage in state.get("stages", [])


def _state(run: Path) -> dict:
    """run.json is replaced in one step, so it reads whole at any time."""
    try:
        return json.loads((run / "run.json").read_bytes())
    except FileNotFoundError:
        return {}


def differences(whole: Path, killed: Path) -> list[str]:
    """Relative names of what is not the same in both; empty if nothing is."""
    names = {path.relative_to(root) for root in (whole, killed) for pattern in COMPARED for path in root.rglob(pattern)}
    different = [str(name) for name in sorted(names) if not _same(whole / name, killed / name)]
    leftovers = [str(path.relative_to(killed)) for path in killed.rglob("*.partial")]
    return different + leftovers


def _same(one: Path, other: Path) -> bool:
    if not (one.exists() and other.exists()):
        return False
    if one.name in TIMED:
        return _without_clocks(one) == _without_clocks(other)
    return one.read_bytes() == other.read_bytes()


def _without_clocks(file: Path) -> str:
    """The text without what tells the time, and without the folder that both runs lie in under names of their own."""
    return CLOCKS.sub("", file.read_text(encoding="utf-8")).replace(str(file.parent.parent.resolve()), "")


def write_logs(path: Path, chats: int) -> None:
    """Chats in which somebody complains, and every third time is answered to their liking."""
    with path.open("w", encoding="utf-8") as out:
        for number in range(chats):
            messages = [
                {"role": "user", "content": f"Please add {number} and {number % 7}."},
                {"role": "assistant", "content": f"{number}{number % 7}"},
                {"role": "user", "content": "No, that is wrong. You did not add them at all."},
            ]
            if number % 3 == 0:
                messages.append({"role": "assistant", "content": str(number + number % 7)})
                messages.append({"role": "user", "content": "Perfect, thank you so much!"})
            out.write(json.dumps({"id": f"chat-{number}", "user": f"u{number % 20}", "messages": messages}) + "\n")


STAGE = {"learning_rate": 1e-4, "optimizer": "adamw_torch", "batch_size": 16, "epochs": 1}
CONFIG = {
    "policy": {"model": "embedded"},
    "iterations": 2,
    "sampling": {"max_new_tokens": 24, "max_prompt_length": 512, "batch_tokens": 2048},
    "training": STAGE,
    "warm_start": STAGE,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chats", type=int, default=300)
    parser.add_argument("--json", action="store_true", help="Print the outcome as one JSON object.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        logs = Path(root) / "logs.jsonl"
        write_logs(logs, args.chats)
        outcome = asdict(kill_and_resume(logs, Path(root), args.kills, args.seed, CONFIG))
    sys.stdout.write(f"{json.dumps(outcome)}\n" if args.json else "".join(f"{k}: {v}\n" for k, v in outcome.items()))
    sys.exit(0 if outcome["identical"] else 1)


if __name__ == "__main__":
    main()
