"""A week in the sandbox: deploy a policy, collect its chats, learn from what is new, gate, deploy the next one; at the
end, the base and the last generation serve side by side, and `drift live` compares them.

    python benchmarks/week.py --out runs/week --json     (or: make week)

The base serves the first users; each generation then serves other users, and the next one learns from their chats, with
`from` as in docs/production.md. All chats go into one store. Prints the true utility of held-out prompts (temperature
1) of the base and of each generation; the gate's verdict on each generation against the one before (target: the
sandbox's truth; guards: perplexity and KL on the store's ordinary conversations, because tiny policies can do nothing
of what the others ask); and the live readout of the last days. The same command resumes.
"""

import argparse
import json
import shutil
import time
from itertools import pairwise
from pathlib import Path

import orjson

from drift.cli.console import watching_stages
from drift.config import Config, load_config
from drift.evaluation.results import read_evaluation
from drift.experiments import demo
from drift.experiments.deployment import DeploymentSettings
from drift.experiments.simulation import sandbox_truth, simulate, simulate_side_by_side
from drift.feedback.label import label_store
from drift.gate.guards import GUARDS, OF_STORE
from drift.gate.plan import GateSettings
from drift.gate.run import run_gate
from drift.live.readout import read_live
from drift.logs.ingest import ingest
from drift.policy.model import source_of
from drift.progress import report_note
from drift.records import Truth
from drift.run import run_config
from drift.rundir import layout, load_run
from drift.rundir.chain import link_of
from drift.sandbox.world import world_hash
from drift.store import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/week"))
    parser.add_argument("--generations", type=int, default=3)
    parser.add_argument("--turns", type=int, default=2500, help="replies that each deployment gives")
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=300, help="held-out requests to measure the utility on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    started = time.monotonic()
    truth, folders = sandbox_truth("test", arguments.prompts), list[Path]()
    for k in range(1, arguments.generations + 1):
        sizes = [f"iterations={arguments.iterations}", f"evaluation.max_prompts={arguments.prompts}"]
        cfg = config(arguments.out, k, arguments.seed, sizes)
        policy = folders[-1] / layout.POLICY if folders else source_of(cfg.policy.model)
        serve(arguments.out / f"chats-{k}", policy, cfg, k, arguments.turns, arguments.seed)
        with watching_stages() as on_stage:
            run_config(cfg, arguments.out / f"generation-{k}", on_stage, truth)
        folders.append(arguments.out / f"generation-{k}")
    live = measure_live(arguments.out, folders[-1], config(arguments.out, 1, arguments.seed, []), arguments.turns)
    result = {
        "generations": [_utility(folders[0], layout.BASE), *map(_kept_utility, folders)],
        "gate": [gate(new, old, truth) for old, new in pairwise(["embedded", *map(str, folders)])],
        "live": live,
        "conversations": [link_of(load_run(folder)).conversations for folder in folders],
        "pairs": [link_of(load_run(folder)).pairs for folder in folders],
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(result) if arguments.json else "\n".join(f"{name}: {value}" for name, value in result.items()))


def config(out: Path, k: int, seed: int, sizes: list[str]) -> Config:
    """drift demo's config on the chats of deployment `k`."""
    changes = [
        f"store={out / 'store'}", f"logs=[{out / f'chats-{k}'}]", f"seed={seed}", f"name=generation-{k}",
        "evaluation.samples=1", *sizes,
    ]  # fmt: skip
    if k > 1:
        changes += [f"from={out / f'generation-{k - 1}'}", f"generation.deployed=generation-{k - 1}"]
    return load_config(Path(demo.__file__).with_name("demo.yaml"), tuple(changes))


def serve(chats: Path, policy: Path | str, cfg: Config, k: int, turns: int, seed: int) -> None:
    """Write the chats of deployment `k`; every deployment has its own chats, days and name of the model."""
    if chats.exists():
        return
    work = chats.with_name(f"{chats.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    users = seed + 1000 * k
    simulate(work, policy, cfg.policy, cfg.sampling, DeploymentSettings(turns=turns), users, world_hash())
    for file in sorted((work / "logs").glob("*.jsonl")):
        rows = [orjson.loads(line) for line in file.read_bytes().splitlines()]
        for row in rows:
            row["id"] = f"week-{k}-{row['id']}"
            row["model"] = f"generation-{k - 1}"
            row["timestamp"] = row["timestamp"].replace("2026-03-", f"2026-{2 + k:02d}-")
        file.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    (work / "logs").rename(chats)
    shutil.rmtree(work)


def gate(new: str, old: str, truth: Truth) -> str:
    """The verdict by the true utility, with the guards that these tiny policies are not blind for."""
    settings = GateSettings(
        new=new, against=old, out=Path(new) / "gate", target="oracle", max_new_tokens=64,
        without=tuple(name for name in GUARDS if name not in OF_STORE),
    )  # fmt: skip
    result = run_gate(settings, truth, dry_run=False, tell=report_note)
    assert result is not None, "not a dry run"
    return result.verdict


def measure_live(out: Path, last: Path, cfg: Config, turns: int) -> dict[str, object]:
    """The base and the last generation serve the same users on the same days; their chats have a store of their own."""
    chats, names = out / "side-by-side", {"base": source_of(cfg.policy.model), last.name: last / layout.POLICY}
    if not chats.exists():
        work = chats.with_name(f"{chats.name}.part")
        shutil.rmtree(work, ignore_errors=True)
        simulate_side_by_side(work, names, cfg.policy, cfg.sampling, turns, seed=cfg.seed + 9000)
        work.rename(chats)
    store = Store(out / "live-store")
    if not store.size():
        ingest((str(chats / "logs"),), store)
    label_store(store)
    found = read_live(store, against="base").comparisons[0]
    return {
        "judged": found.judged,
        "difference": [found.difference.value, found.difference.low, found.difference.high],
        "verdict": found.verdict,
        "words": found.words,
    }


def _utility(run: Path, folder: str) -> float:
    measured = read_evaluation(run / folder / layout.EVALUATION).utility
    return round(next(each.mean for each in measured if each.temperature == 1.0), 4)


def _kept_utility(run: Path) -> float:
    kept = load_run(run).kept or 0
    return _utility(run, layout.iteration(kept) if kept else layout.WARM_START)


if __name__ == "__main__":
    main()
