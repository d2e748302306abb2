"""One frozen tree of settings: YAML in, the resolved YAML out. Unknown keys are refused with the nearest right name."""

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from drift.errors import ConfigError
from drift.records import PersonalData


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LoraSettings(Settings):
    """A peft adapter is trained in place of the weights. `quantize`: what it stands on is held in 4 bits (QLoRA)."""

    r: PositiveInt = 16
    alpha: PositiveInt = 32
    target_modules: Literal["all-linear"] | list[str] = "all-linear"
    quantize: Literal["4bit"] | None = None


class PolicySettings(Settings):
    """`model`: a Hugging Face id or folder, or `embedded` (`embedded-2`, `embedded-3`): the tiny ones that ship."""

    model: str = "embedded"
    dtype: Literal["float32", "bfloat16"] = "float32"
    lora: LoraSettings | None = None


class EndpointSettings(Settings):
    """An OpenAI-compatible server. `api_key_env`: the environment variable with the key; without one no key is sent.

    `timeout`: seconds for one attempt. `retries`: further attempts of one request. Prices in any currency, per million
    tokens; `max_cost` in the same currency: nothing is sent that could pass it.
    """

    base_url: str
    model: str
    api_key_env: str | None = None
    max_concurrency: PositiveInt = 8
    timeout: PositiveFloat = 120.0
    retries: int = Field(default=5, ge=0)
    price_per_million_input: float | None = Field(default=None, ge=0.0)
    price_per_million_output: float | None = Field(default=None, ge=0.0)
    max_cost: float | None = Field(default=None, gt=0.0)


class IngestionSettings(Settings):
    """How logs are read in. `redact`: personal data become placeholders, but for the kinds in `keep`.

    `persons`: a spaCy model that finds people's names too (extra `pii`). `require_consent`: fields of the source and
    the value that each must have; other conversations are left out and counted. `near_duplicates`: note which
    conversations nearly repeat others; pairs are made of the first alone.
    """

    redact: bool = True
    keep: tuple[PersonalData, ...] = ()
    persons: str | None = None
    require_consent: dict[str, str] = {}
    near_duplicates: bool = False


class LabelSettings(Settings):
    """`min_p_dsat`: a reply counts as disliked from this probability on (labels that logs bring along always count).

    `judge`: every turn goes to the model behind `endpoint`. `cascade`: the embedded labeller scores everything; the
    judge sees the turns with p_dsat of at least `judge_from` and, of the others, a random `audit_share`.
    `judge_by`: written answers, or the probabilities of a decision endpoint. `rubric`: a file; else the one that ships.
    `include`: complaints that are kept out of pairs unless named here. `fresh_not_better`: how often a fresh reply is
    not better than the disliked one (audited in `drift review`); it is part of each pair's noise. `max_per_user`: no
    user gives more prompts to train on, so that none can plant a behaviour alone; null where one id stands for many.
    """

    min_p_dsat: float = Field(default=0.5, ge=0.5, le=1.0)
    labeller: Literal["embedded", "judge", "cascade"] = "embedded"
    endpoint: EndpointSettings | None = None
    rubric: str | None = None
    judge_by: Literal["chat", "decisions"] = "chat"
    judge_from: float = Field(default=0.2, ge=0.0, le=1.0)
    audit_share: float = Field(default=0.05, ge=0.0, le=1.0)
    include: tuple[Literal["refusal_complaint", "abuse", "toxic"], ...] = ()
    fresh_not_better: float = Field(default=0.0, ge=0.0, le=1.0)
    max_per_user: PositiveInt | None = 100

    @model_validator(mode="after")
    def _has_a_judge(self) -> "LabelSettings":
        if self.labeller != "embedded" and self.endpoint is None:
            raise ValueError(f"the {self.labeller} needs a server: set labels.endpoint.base_url and .model")
        return self


class ScorerSettings(Settings):
    """Who scores fresh replies, for recipes that rank them and for the pairs' margins.

    `self`: the policy's own mean log-prob per token. `reward_model`: a sequence classifier, `model` names it.
    `judge`: a model behind `endpoint` that compares with the disliked reply, in both orders.
    `oracle`, `noisy_oracle`: the sandbox's truth, the latter with normal noise of deviation `noise`; for experiments.
    """

    name: Literal["self", "reward_model", "judge", "oracle", "noisy_oracle"] = "self"
    model: str | None = None
    endpoint: EndpointSettings | None = None
    noise: float = Field(default=0.5, ge=0.0)

    @model_validator(mode="after")
    def _names_whom_it_asks(self) -> "ScorerSettings":
        if self.name == "reward_model" and self.model is None:
            raise ValueError("a reward model is a folder or an id: set recipe.scorer.model")
        if self.name == "judge" and self.endpoint is None:
            raise ValueError("the judge needs a server: set recipe.scorer.endpoint.base_url and .model")
        return self


class RecipeSettings(Settings):
    """How pairs are built. `guided_share` of the prompts show the policy the disliked reply and the complaint, the rest
    the request alone; with `iter_dpo` it is the share of a prompt's samples. Without a complaint (a bare thumb-down) it
    is the request alone, whatever the share.

    `samples`: fresh replies per prompt. `pairs`: exactly so many pairs per iteration, by leaving out or by repeating.
    `retire_below`: a disliked reply is retired once its log-prob has fallen by so many nats since the warm start.
    `only_wins`: keep a pair only if the scorer finds the chosen better. `match_length`: of a prompt's samples keep the
    one whose length is nearest to the disliked reply's. `max_similarity`: share of common words, in order, above which
    two long replies are near-duplicates (1: none are).
    """

    name: Literal["drift", "spin", "iter_dpo", "logs", "random_turns"] = "drift"
    guided_share: float = Field(default=1.0, ge=0.0, le=1.0)
    samples: PositiveInt = 1
    scorer: ScorerSettings | None = None
    pairs: PositiveInt | None = None
    retire_below: PositiveFloat | None = None
    only_wins: bool = False
    match_length: bool = False
    max_similarity: float = Field(default=0.98, gt=0.0, le=1.0)

    @model_validator(mode="after")
    def _fits_the_recipe(self) -> "RecipeSettings":
        if (self.scorer or self.only_wins) and self.name in ("spin", "logs"):
            raise ValueError(f"{self.name} makes no use of scores: leave out recipe.scorer and recipe.only_wins")
        if self.name == "iter_dpo" and (self.scorer is None or self.samples < 2):
            raise ValueError("iter_dpo ranks several replies: set recipe.scorer.name and recipe.samples of 2 or more")
        if self.only_wins and self.scorer is None:
            raise ValueError("only_wins keeps what a scorer finds better: set recipe.scorer.name")
        if self.match_length and (self.samples < 2 or self.name not in ("drift", "random_turns")):
            raise ValueError(
                "match_length chooses among samples of drift or random_turns: set recipe.samples to 2 or more"
            )
        if self.retire_below is not None and self.name not in ("drift", "random_turns"):
            raise ValueError("retire_below is for recipes with a fixed rejected reply: drift, random_turns")
        return self


class VllmSettings(Settings):
    """vLLM's server. `command`: how it is called, for example with the python of an environment of its own.

    `gpus`: one replica on each; none: a single one that sees whatever the machine has. `arguments`: further ones of the
    server. `seeds`: a seed with every request (vLLM on a CPU fails at it). `start_seconds`: given to load the policy.
    """

    command: str = "python -m vllm.entrypoints.openai.api_server"
    gpus: tuple[int, ...] = ()
    arguments: tuple[str, ...] = ()
    seeds: bool = True
    start_seconds: PositiveFloat = 900.0


class SamplingSettings(Settings):
    """`batch_tokens`: prompts of one batch times (longest prompt + new tokens) stays below it (transformers alone).

    `backend`: transformers in this process, vLLM in one of its own, or the server that `endpoint` names.
    """

    temperature: float = Field(default=0.7, ge=0.0)
    top_p: float = Field(default=0.9, gt=0.0, le=1.0)
    max_new_tokens: PositiveInt = 512
    max_prompt_length: PositiveInt = 2048
    batch_tokens: PositiveInt = 32768
    drop_truncated: bool = False
    backend: Literal["transformers", "vllm", "endpoint"] = "transformers"
    vllm: VllmSettings = VllmSettings()
    endpoint: EndpointSettings | None = None

    @model_validator(mode="after")
    def _names_its_server(self) -> "SamplingSettings":
        if self.backend == "endpoint" and self.endpoint is None:
            raise ValueError("backend endpoint needs a server: set sampling.endpoint.base_url and .model")
        return self


class TrainerSettings(Settings):
    """One call of the trainer. Lengths in tokens; `batch_size` in pairs per optimizer step, which is computed in
    micro-batches of `micro_batch_tokens`: they bound the memory and change nothing else.

    docs/training.md says when to choose which loss. `margin`: the anchored loss's target, nats per `margin_unit`
    (a pair's own margin is something else: what a scorer gave it).
    `diagnostics`: measure what the paper's theory speaks of; `tau` is Lemma 1's, a probability.
    docs/scaling.md: `save_steps` between checkpoints (0: none); `launch`: the command that starts training's processes;
    `shard`: they hold a share of the weights each, for a model whose training state fits no single GPU (FSDP2).
    """

    loss: Literal["sigmoid", "sigmoid_norm", "ipo", "robust", "apo_zero", "anchored", "sft"] = "sigmoid"
    beta: PositiveFloat = 0.1
    margin: PositiveFloat = 3.0
    margin_unit: Literal["sequence", "token"] = "sequence"
    rpo_alpha: float = Field(default=0.001, ge=0.0)
    epochs: PositiveInt = 1
    learning_rate: PositiveFloat = 5e-7
    optimizer: Literal[
        "adamw_torch", "rmsprop", "adamw_bnb_8bit", "rmsprop_bnb_8bit", "paged_adamw_8bit", "paged_adamw_32bit"
    ] = "rmsprop"
    lr_scheduler: Literal["linear", "constant", "cosine"] = "linear"
    warmup_ratio: float = Field(default=0.1, ge=0.0, le=1.0)
    max_grad_norm: PositiveFloat = 1.0
    batch_size: PositiveInt = 4
    micro_batch_tokens: PositiveInt = 8192
    max_length: PositiveInt = 2048
    max_prompt_length: PositiveInt = 1024
    gradient_checkpointing: bool = False
    diagnostics: bool = False
    tau: float = Field(default=0.25, gt=0.0, lt=1.0)
    save_steps: NonNegativeInt = 500
    launch: str | None = Field(default=None, min_length=1)
    shard: bool = False
    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()


class TrainingSettings(TrainerSettings):
    """An iteration. `reference`: the policy at its start (the paper's), or the warm start in every iteration."""

    reference: Literal["iteration", "warm_start"] = "iteration"


class WarmStartSettings(TrainerSettings):
    """The paper's seed stage: DPO on the DSAT -> SAT repairs, three epochs. 0 epochs: no warm start."""

    epochs: NonNegativeInt = 3


class StopSettings(Settings):
    """`heldout_logps`: stop when held-out guided replies of the warm start have been less likely than at their best, by
    more than the standard error, for `patience` iterations running."""

    rule: Literal["none", "heldout_logps"] = "heldout_logps"
    patience: PositiveInt = 1


class EvaluationSettings(Settings):
    """`temperatures`: where a true utility is known (the sandbox), it is measured at each of these; 0 is greedy.

    `split`: what is held out, by hash or, by time, the latest conversations, which the model will meet in use.
    """

    split: Literal["hash", "time"] = "hash"
    temperatures: tuple[float, ...] = (1.0, 0.7, 0.0)
    samples: PositiveInt = 1
    max_prompts: PositiveInt = 500
    max_length: PositiveInt = 2048


class DeploymentSettings(Settings):
    """The simulated deployment behind an experiment's logs. `noise`: share of complaints that fall on any reply.

    `model`, `temperature`: who answered, and how; None is the policy that is then trained.
    """

    world: Literal["first", "long"] = "first"
    turns: PositiveInt = 5000
    noise: float = Field(default=0.0, ge=0.0, le=1.0)
    model: str | None = None
    temperature: PositiveFloat = 1.0


class Config(Settings):
    """A run: `logs` go into `store` (else RUN/store), everything else into `output` (else runs/NAME-HASH).

    `threads`: CPU threads of the models; null: what the machine offers when the run begins, kept when it is resumed.
    """

    name: str = "drift"
    logs: tuple[str, ...] = ()
    store: str | None = None
    output: str | None = None
    seed: int = 42
    threads: PositiveInt | None = None
    ingestion: IngestionSettings = IngestionSettings()
    policy: PolicySettings = PolicySettings()
    labels: LabelSettings = LabelSettings()
    recipe: RecipeSettings = RecipeSettings()
    sampling: SamplingSettings = SamplingSettings()
    warm_start: WarmStartSettings = WarmStartSettings()
    iterations: PositiveInt = 2
    training: TrainingSettings = TrainingSettings()
    stop: StopSettings = StopSettings()
    evaluation: EvaluationSettings = EvaluationSettings()


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> Config:
    """Read a YAML file and apply `a.b=value` overrides (values are YAML).

    Raises ConfigError with the file, the key and the nearest right name.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config. `ls configs/` shows those that ship.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a config is a mapping of keys to values, this is a {type(tree).__name__}.")
    for override in overrides:
        _apply(tree, override)
    return parse_config({"name": path.stem, **tree}, str(path))


def parse_config(tree: dict[str, Any], where: str) -> Config:
    """The validated tree. Raises ConfigError naming the first wrong key or value."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error)}") from None


def dump_config(config: Config) -> str:
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: write it as key=value, for example --set training.beta=0.2")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(
            f"--set {override}: the value is no YAML; quote it, for example --set name='\"a: b\"'"
        ) from None
    *parents, last = key.split(".")
    for parent in parents:
        tree[parent] = tree.get(parent) or {}
        tree = tree[parent]
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {override}: {parent} is a single value and has no part {last!r}.")
    tree[last] = value


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        return f"{key}: {first['msg']}, not {first['input']!r}."
    known = _fields_at(first["loc"][:-1])
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}."
    return f"{key}: no such setting; {hint}"


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Config
    for part in location:
        annotation = model.model_fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
    return list(model.model_fields)
