"""Every file and folder of a run, named once.

    RUN/config.yaml  run.json  lock  report.html  exploration.json
        children.jsonl               the runs in other folders that start from this one
        store/                       the run's own store, where the config names none
        deployment/                  `drift demo`, `drift compare`: the simulated chat logs and their truth
        data/                        labels and their quality, prompts (disliked, liked, judged or random), held-out
                                     prompts and liked replies, what earlier generations were trained on, the funnel
        base/                        the evaluation of the policy before any training; its model, if it was a GGUF file
        generation-0/                in a chain: the evaluation of the model that the first run started from
        warm-start/                  pairs, reference, policy, metrics, evaluation
        liked-start/                 the training on liked replies before that, where warm_start.on asks for it
        heldout/                     one guided reply per held-out prompt, as fixed pairs to measure every policy by
        guidance-1/ ...              before each iteration of guided_share: auto: prompts answered guided and unguided
        iteration-1/ ...             completions, the feedback reward, scores, judgements, unlearned prompts, pairs,
                                     improvement, reference, policy, metrics, evaluation
        policy/                      the policy to use
        compared/                    `drift compare`: what it measures beside the last iteration's evaluation
        .work/                       stages that are under way

Every folder with stages in it has a manifest.json.
"""

from collections.abc import Mapping
from pathlib import Path

from drift.records import PromptKind

CONFIG = "config.yaml"
STATE = "run.json"
MANIFEST = "manifest.json"
LOCK = "lock"
CHILDREN = "children.jsonl"
WORK = ".work"
REPORT = "report.html"
EXPLORATION = "exploration.json"
GATE = "gate.json"
STORE = "store"
DEPLOYMENT = "deployment"
DEPLOYMENT_LOGS, DEPLOYMENT_TRUTH = f"{DEPLOYMENT}/logs", f"{DEPLOYMENT}/truth.jsonl"

LABELS = "data/labels.jsonl"
LABEL_QUALITY = "data/label_quality.json"
PROMPTS = "data/prompts.jsonl"
OWN_REPLIES = "data/own_replies.jsonl"
BELIEVED = "data/believed.jsonl"
LIKED = "data/liked.jsonl"
JUDGED = "data/judged.jsonl"
FOLLOW_UPS = "data/follow_ups.jsonl"
RANDOM = "data/random.jsonl"
PROMPT_FILES: Mapping[PromptKind, str] = {
    "disliked": PROMPTS,
    "liked": LIKED,
    "judged": JUDGED,
    "followed": FOLLOW_UPS,
    "random": RANDOM,
}
"""The prompts that a recipe learns from, by their kind (`RecipeRules.prompts`)."""
HELDOUT = "data/heldout.jsonl"
HELDOUT_LIKED = "data/heldout_liked.jsonl"
EARLIER = "data/earlier.jsonl"
FUNNEL = "data/funnel.json"

BASE_MODEL = "base/model"
BASE, LIKED_START, WARM_START, HELDOUT_REPLIES = "base", "liked-start", "warm-start", "heldout"
GENERATION_0 = "generation-0"
COMPARED = "compared"

# In the folder of what a comparison measures; the base has its own.
OTHER_KINDS = "other_kinds.json"
DISTANCE = "distance.json"

# In a guidance folder, beside completions and scores.
TRIAL_PROMPTS = "trial_prompts.jsonl"
GUIDANCE = "guidance.json"

# In the folder of an iteration; the base, the warm start and the held-out replies have some of them too.
COMPLETIONS = "completions.jsonl"
SCORES = "scores.jsonl"
FEEDBACK_REWARD = "feedback-reward"
TURNS = "turns.jsonl"  # in the folder of a feedback reward: the replies that it learned from
JUDGEMENTS = "judgements.jsonl"
UNLEARNED = "unlearned.jsonl"
PAIRS = "pairs.jsonl"
IMPROVEMENT = "improvement.json"
REFERENCE = "reference.safetensors"
METRICS = "metrics.jsonl"
EVALUATION = "evaluation.json"
POLICY = "policy"

_ITERATION = "iteration-"
_GUIDANCE = "guidance-"


def iteration(k: int) -> str:
    """The folder of iteration `k`, counted from 1."""
    return f"{_ITERATION}{k}"


def guidance(k: int) -> str:
    """The folder in which iteration `k` measures whether guidance helps."""
    return f"{_GUIDANCE}{k}"


def is_guidance(name: str) -> bool:
    """Whether RUN/`name` is a folder of `guidance`, or in one: its replies are compared, never trained on."""
    return name.startswith(_GUIDANCE)


def iteration_of(name: str) -> int | None:
    """The number of the iteration whose folder is, or holds, RUN/`name`; None for what lies outside of iterations."""
    folder = name.split("/")[0]
    number = folder.removeprefix(_ITERATION)
    return int(number) if folder.startswith(_ITERATION) and number.isdecimal() else None


def number_of(name: str) -> int | None:
    """The number of the iteration or of the guidance before it, in whose folder RUN/`name` is; None outside of both."""
    prefix, dash, number = name.split("/")[0].rpartition("-")
    return int(number) if f"{prefix}{dash}" in (_ITERATION, _GUIDANCE) and number.isdecimal() else None


def iteration_folders(run: Path) -> list[Path]:
    """The folders of all iterations, in the order of their numbers."""
    folders = [folder for folder in run.glob(f"{_ITERATION}*") if iteration_of(folder.name) is not None]
    return sorted(folders, key=lambda folder: iteration_of(folder.name) or 0)


def is_run(folder: Path) -> bool:
    return (folder / STATE).is_file()
