"""`drift demo --real`: a real small language model chats with simulated users, and learns from the logs of the chats.

The world is the sandbox's instructions world: a program checks whether a reply keeps what was asked. As in
`drift demo`, only the measurement knows that truth.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from drift.config import ADAPTER_RATE, Config, load_config
from drift.errors import ConfigError
from drift.evaluation.results import read_evaluation
from drift.experiments.packaged import local_model
from drift.policy.model import computes_bfloat16, parameter_count
from drift.policy.source import adapter_settings, is_adapter
from drift.progress import report_note
from drift.records import stable_hash
from drift.run import collect, learn, open_run
from drift.rundir import OnStage, RunDir, layout, load_run
from drift.sandbox.instructions.deployment import simulate_instructions, truth_of_instructions
from drift.sandbox.instructions.users import UserSettings
from drift.sandbox.instructions.world import instructions_world_hash
from drift.start import base_model


@dataclass(frozen=True, slots=True)
class Size:
    """`replies`: of the model in the simulated chat logs; `requests`: held-out ones that measure each policy."""

    replies: int
    requests: int


FULL_SIZE, SMALL_SIZE = Size(replies=1000, requests=150), Size(replies=250, requests=100)
"""The small one is for processors without bfloat16 arithmetic, where sampling takes 2.8 times and training 3.5 times as
long (`drift bench iteration`, benchmarks/results/iteration_amx.json and iteration_float32.json, two machines). With
either, SmolLM2-135M needs less than 25 minutes on two quiet cores."""

DEFAULT_MODEL = "smollm2-135m"

USERS = UserSettings(
    thanks=1.0,
    complaints=0.4,
    two_constraints=0.0,
    three_constraints=0.0,
    kinds=(
        "max_words", "one_line", "max_sentences", "avoid_letter", "short_sentences", "end_question", "no_commas",
        "avoid_word", "numbered", "min_words", "include_word", "sentences",
    ),
)  # fmt: skip
"""One constraint, of the kinds that SmolLM2-135M got right now and then in 700 validation requests: with all kinds and
up to three at once, so small a model is hardly ever right, and there is nothing to like."""

BYTES_PER_PARAMETER = 20
"""Of full training with AdamW: float32 weights, gradients and two moments, and weights and gradients in bfloat16."""

ACTIVATION_BYTES = 5 * 2**30
"""Room for activations, whatever the model: an estimate. With 16 bytes per weight and 4 GiB the sum was too small for
both packaged models."""


@dataclass(frozen=True, slots=True)
class RealDemoSummary:
    """What the demo prints and returns.

    `truth`: the share of held-out requests that are answered right, at the deployment's temperature and top-p 1, by the
    policy of each step; `final`: by the policy that the run kept. `run`, `report`: paths. `world`: the instructions
    world's hash.
    """

    truth: dict[str, float | list[float]]
    model: str
    run: str
    report: str
    seed: int
    world: str
    seconds: float


def run_real_demo(model: str | None, seed: int, out: Path | None, on_stage: OnStage | None = None) -> RealDemoSummary:
    """Deploy the model, learn from its logs, and measure. Resumes like any run.

    `model`: an id, a path, or the name of a packaged one; default: SmolLM2-135M.
    """
    started = time.monotonic()
    if model is not None and not model.strip():
        raise ConfigError("--model: empty; name an id, a folder or a .gguf file, or leave it out for SmolLM2-135M.")
    source = local_model(model or DEFAULT_MODEL)
    cfg = real_config(source, seed, out or default_folder(model, seed))
    size = size_for(cfg.policy.dtype)
    with open_run(cfg, Path(str(cfg.output)), on_stage) as run:
        write_deployment(cfg, run, size.replies)
        store = collect(cfg, run)
        result = learn(cfg, run, store, truth_of_instructions("test", size.requests, USERS))
    return RealDemoSummary(
        truth=_truth(run.path, cfg.iterations),
        model=source,
        run=result.run,
        report=result.report,
        seed=seed,
        world=instructions_world_hash(),
        seconds=round(time.monotonic() - started, 1),
    )


def real_config(model: str, seed: int, folder: Path) -> Config:
    """demo_real.yaml for this model, in the type that the machine computes fastest.

    It is trained as an adapter if it is one, or if the memory is too small for full training; an interrupted run
    goes on as it began in `folder`. Notes say what was chosen. Raises PrerequisiteError if there is no such model.
    """
    dtype = "bfloat16" if computes_bfloat16() else "float32"
    report_note(f"computing in {dtype}: this machine {'has' if dtype == 'bfloat16' else 'lacks'} bfloat16 arithmetic")
    cfg = load_config(Path(__file__).with_name("demo_real.yaml"), (f"seed={seed}", f"policy.dtype={dtype}"))
    as_adapter = _as_adapter(model, folder)
    policy = cfg.policy.model_copy(update={"model": model})
    if as_adapter:
        lora = _lora_of(Path(model)) if is_adapter(model) else {}
        policy = policy.model_validate({**policy.model_dump(), "lora": lora})
        cfg = _at_adapter_rates(cfg)
    logs = (str(folder / layout.DEPLOYMENT_LOGS),)
    return cfg.model_copy(update={"policy": policy, "output": str(folder), "logs": logs})


def _as_adapter(model: str, folder: Path) -> bool:
    """Whether an adapter is trained, rather than all weights. A note says why."""
    parameters = parameter_count(model)  # reports a missing model
    if is_adapter(model):
        report_note(f"training an adapter (LoRA): {model} is one; the weights of its base stay as they are")
        return True
    needed, free = parameters * BYTES_PER_PARAMETER + ACTIVATION_BYTES, free_memory()
    begun = _begun_as_adapter(folder, model)
    as_adapter = needed > free if begun is None else begun
    why = f"full training needs about {needed / 2**30:.0f} GiB, {free / 2**30:.0f} GiB are free"
    if begun is not None:
        why += f", and the run in {folder} began so; to choose again, name another --out"
    report_note(f"training {'an adapter (LoRA)' if as_adapter else 'all weights'}: {why}")
    return as_adapter


def _lora_of(adapter: Path) -> dict[str, Any] | None:
    """The settings of an adapter, which is trained further with them; None if its layers are not listed."""
    its = adapter_settings(adapter)
    lora = {"r": its.get("r"), "alpha": its.get("lora_alpha"), "target_modules": its.get("target_modules")}
    return lora if isinstance(lora["target_modules"], list) else None


def default_folder(model: str | None, seed: int) -> Path:
    """Each model has a folder of its own: in another one's, it would replace twenty minutes of work."""
    if model is None or model.lower() == DEFAULT_MODEL:
        return Path(f"runs/real-seed-{seed}")
    path, whole_path = Path(model), []
    if path.expanduser().exists():  # its last parts are often those of other models: X/run/policy
        path = path.expanduser().resolve()
        whole_path = [stable_hash(str(path))[:8]]
    owner_and_name = [part for part in path.parts if part != path.anchor][-2:]
    return Path(f"runs/real-{'--'.join([*owner_and_name, *whole_path])}-seed-{seed}")


def size_for(dtype: str) -> Size:
    """How much is simulated and measured on this machine, which computes in `dtype`. A note says so if it is less."""
    if dtype == "bfloat16" or torch.cuda.is_available():
        return FULL_SIZE
    report_note(
        f"the demo is smaller here, because replies take longer without bfloat16: {SMALL_SIZE.replies} logged replies "
        f"in place of {FULL_SIZE.replies}, {SMALL_SIZE.requests} held-out requests in place of {FULL_SIZE.requests}"
    )
    return SMALL_SIZE


def _at_adapter_rates(cfg: Config) -> Config:
    rates = {name: getattr(cfg, name).learning_rate * ADAPTER_RATE for name in ("warm_start", "training")}
    sections = {name: getattr(cfg, name).model_copy(update={"learning_rate": rate}) for name, rate in rates.items()}
    return cfg.model_copy(update=sections)


def _begun_as_adapter(folder: Path, model: str) -> bool | None:
    """How an earlier command began to train this model here; None if none did. Another way would redo all stages."""
    if not layout.is_run(folder):
        return None
    earlier = load_run(folder).settings.get("policy")  # as it stands there: another version may have had other settings
    if not isinstance(earlier, dict) or earlier.get("model") != model:
        return None
    return earlier.get("lora") is not None


def write_deployment(cfg: Config, run: RunDir, replies: int) -> Path:
    """Run the first stage: RUN/deployment gets the chat logs and, in a file of its own, the truth."""
    return run.stage(
        layout.DEPLOYMENT, simulate_instructions,
        answering=base_model(cfg, run), policy=cfg.policy, sampling=cfg.sampling, users=USERS,
        replies=replies, seed=cfg.seed, world=instructions_world_hash(),
    )  # fmt: skip


def _truth(run: Path, iterations: int) -> dict[str, float | list[float]]:
    """Shares of right answers by step, out of the evaluations in the run folder."""

    def right(folder: str) -> float:
        return round(read_evaluation(run / folder / layout.EVALUATION).utility[0].mean, 4)

    view = load_run(run)  # an iteration's folder may be an earlier command's
    done = [k for k in range(1, iterations + 1) if view.file(f"{layout.iteration(k)}/{layout.EVALUATION}")]
    steps = [right(layout.WARM_START), *(right(layout.iteration(k)) for k in done)]
    final = steps[view.kept or 0]
    return {"base": right(layout.BASE), "warm_start": steps[0], "iterations": steps[1:], "final": final}


def free_memory(root: Path = Path("/")) -> int:
    """Free bytes of the GPU's memory, or of the machine's if there is no GPU: what it has, and what a container may
    still take. `root`: where `proc` and `sys` are."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    meminfo = root / "proc/meminfo"
    if not meminfo.exists():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    fields = dict(line.split(":", 1) for line in meminfo.read_text("ascii").splitlines())
    lefts = [int(fields["MemAvailable"].split()[0]) * 1024, *(_left_of(root, *limit) for limit in _CONTAINER_LIMITS)]
    return min(left for left in lefts if left is not None)


_CONTAINER_LIMITS = (
    ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current", "inactive_file"),
    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory/memory.usage_in_bytes", "total_inactive_file"),
)
"""Control groups, versions 2 and 1: the limit, what is used, and how much of that is files that can be read again."""


def _left_of(root: Path, limit: str, used: str, inactive: str) -> int | None:
    """Bytes that the container may still take; None if it has no limit."""
    try:
        bytes_of = {name: (root / name).read_text("ascii").strip() for name in (limit, used)}
        stat = dict(line.split() for line in ((root / used).parent / "memory.stat").read_text("ascii").splitlines())
        return int(bytes_of[limit]) - int(bytes_of[used]) + int(stat[inactive])
    except (OSError, ValueError, KeyError):  # `max`, or no such file
        return None
