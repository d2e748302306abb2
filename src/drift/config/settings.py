"""All settings as one frozen tree; an unknown key is an error. The docstrings here are the page docs/settings.md."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    field_serializer,
    model_serializer,
    model_validator,
)

from drift.config.cluster import ClusterSettings
from drift.config.defence import DefenceSettings
from drift.config.endpoint import EndpointSettings
from drift.config.labels import LabelSettings
from drift.config.mapping_rules import known_columns, known_roles, listed_roles, without_password
from drift.config.recipe_rules import (
    RECIPE_RULES,
    RecipeRules,
    check_complaints,
    check_loss,
    known_recipe,
    share_or_auto,
)
from drift.config.section import Seed, Settings, folder_name
from drift.config.template_rules import iso_date, without_own_arguments
from drift.config.training import StopSettings, TrainingSettings, WarmStartSettings
from drift.errors import ConfigError
from drift.records import BackendName, Guidance, PersonalData, ScorerName, Thinking, Unfinished

GUIDED_SHARE = 1.0
"""The paper's share of guided prompts; `auto` takes it where guidance helps."""
GUIDANCE_PROMPTS = 40
"""Prompts that `auto` answers both ways in each iteration."""
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's --max-lora-rank may be (newer versions also take 1); a rank between them takes the room of the next."""
ADAPTER_RATE = 5
"""The learning rates of an adapter over those of full training. Measured for SFT alone: 5e-4 on Qwen2.5-Coder-0.5B
(results/real_qwen)."""
FEWEST_GUIDANCE_PROMPTS = 10  # below that, `auto` cannot tell
SCORERS_OF_LOG_ODDS: tuple[ScorerName, ...] = ("feedback", "reward_model")
"""Their margin is the log-odds that the chosen reply is the better one."""


class LoraSettings(Settings):
    """Train a peft adapter instead of the weights. `quantize: 4bit` loads the base model in 4 bits (QLoRA).

    A `policy.model` that is an adapter is trained further as it is: these settings have to be its own, or be left out.
    """

    r: PositiveInt = 16
    alpha: PositiveInt = 32
    target_modules: Literal["all-linear"] | list[str] = "all-linear"
    quantize: Literal["4bit"] | None = None


class PolicySettings(Settings):
    """The model to improve, and how its chat template is used (docs/models.md).

    `model`: a Hugging Face id, a model folder, a GGUF file, or `embedded`, `embedded-2`, `embedded-3` (tiny models that
    ship with drift). `thinking`: `off` trains and samples without thoughts; `keep` trains on them; `strip` samples with
    thoughts and trains without. `template_arguments`: arguments of the chat template, the same that you serve with, for
    example `{enable_thinking: false}`. `date`: what a template that reads the clock shows; null: the day the run began.
    """

    model: str = "embedded"
    dtype: Literal["float32", "bfloat16"] = "float32"
    lora: LoraSettings | None = None
    thinking: Thinking = "off"
    template_arguments: Annotated[dict[str, Any], AfterValidator(without_own_arguments)] = Field(default={})
    date: Annotated[str | None, BeforeValidator(iso_date)] = None


class IngestionSettings(Settings):
    """How chat logs are read.

    `redact`: replace personal data with placeholders, except the kinds in `keep`. `persons`: a spaCy model that also
    finds people's names (extra `pii`). `require_consent`: fields of the log and the value each must have; other
    conversations are skipped and counted. `near_duplicates`: detect conversations that nearly repeat another one; only
    the longest of them gives pairs. `map`: the columns of a table, as `--map`; `roles`: the log's words for its roles,
    with or without a `map`, as `--roles` (docs/tables.md).
    """

    redact: bool = True
    keep: tuple[PersonalData, ...] = ()
    persons: str | None = None
    require_consent: dict[str, str] = Field(default={})
    near_duplicates: bool = False
    map: Annotated[dict[str, str], AfterValidator(known_columns)] = Field(default={})
    roles: Annotated[dict[str, tuple[str, ...]], BeforeValidator(listed_roles), AfterValidator(known_roles)] = Field(
        default={}
    )

    @model_validator(mode="after")
    def _maps_its_roles(self) -> "IngestionSettings":
        if self.roles and self.map and "role" not in self.map:
            raise ValueError("a table of exchanges has no roles: leave --roles out (in a config: ingestion.roles)")
        return self


class FeedbackRewardSettings(Settings):
    """The reward that learns from the store's own labels which replies users like. `epochs`, `learning_rate`,
    `batch_size`: of its training; a rate of null is 3e-5, and five times that for an adapter. `retrain_every`:
    iterations after which it is trained again, from the policy of that time; 0 trains it once.
    """

    epochs: PositiveInt = 2
    learning_rate: PositiveFloat | None = None
    batch_size: PositiveInt = 16
    retrain_every: NonNegativeInt = 0


class ScorerSettings(Settings):
    """How fresh replies are scored, for recipes that rank replies and for the margins of pairs.

    `self`: the policy's mean log-prob per token. `reward_model`: the sequence classifier that `model` names.
    `hindsight`: how little the reply invites the complaint that was made, under the policy, in nats per token.
    `feedback`: a classifier on the weights of `model` (default: the policy) that learns from the store's labels; two
    scores differ by the log-odds that the one reply is the liked one. All of it is trained, or, with `policy.lora`, an
    adapter and its head.
    `judge`: the model behind `endpoint` compares each reply with the disliked one, in both orders.
    `oracle`, `noisy_oracle`: the sandbox's true utility, without and with normal noise (standard deviation `noise`);
    for experiments.
    """

    name: ScorerName = "self"
    model: str | None = None
    endpoint: EndpointSettings | None = None
    noise: float = Field(default=0.5, ge=0.0)
    feedback: FeedbackRewardSettings = FeedbackRewardSettings()

    @model_validator(mode="after")
    def _names_its_model(self) -> "ScorerSettings":
        if self.name == "reward_model" and self.model is None:
            raise ValueError("scorer reward_model needs a model folder or id: set recipe.scorer.model")
        if self.name == "judge" and self.endpoint is None:
            raise ValueError("scorer judge needs a server: set recipe.scorer.endpoint.base_url and .model")
        # else a user believes that this model or server scored
        if self.model is not None and self.name not in ("feedback", "reward_model"):
            raise ValueError(
                f"scorer {self.name} uses no model of its own, so {self.model} would score nothing: set "
                "recipe.scorer.name to feedback or reward_model, or recipe.scorer.model=null"
            )
        if self.endpoint is not None and self.name != "judge":
            raise ValueError(
                f"scorer {self.name} asks no server, so {self.endpoint.base_url} would score nothing: set "
                "recipe.scorer.name=judge, or recipe.scorer.endpoint=null"
            )
        return self


class RecipeSettings(Settings):
    """How pairs are built.

    `guided_share`: share of the prompts for which the policy sees the disliked reply and the complaint when it samples;
    for the others it sees only the request. With `best_of` and `iter_dpo` it is a share of each prompt's samples. A
    reply without a written complaint (a bare thumb-down) is always sampled from the request only. `auto`: each
    iteration first answers `guidance_prompts` prompts both ways and guides if that scores better (docs/sampling.md).
    `guidance`: what a guided prompt looks like. `turn`: the disliked reply and the complaint follow the request;
    `hint`: the request with the complaint in one message; `rewrite`: the request with both in one message.
    `samples`: fresh replies per prompt.
    `scorer`: who scores them. `pairs`: exact number of pairs per iteration; pairs are dropped or repeated to reach it.
    `retire_below`: a disliked reply gives no more pairs once its log-prob has fallen by this many nats since the warm
    start. `only_wins`: keep only pairs whose chosen reply the scorer prefers, and with a `win_probability` above 0.5
    only those where the sigmoid of the margin is above it: with the scorers `feedback` and `reward_model`, whose
    margins are log-odds. `match_length`: of a prompt's samples, keep the one
    whose length is closest to the disliked reply's. `own_majority`: before training, the policy answers each disliked
    request so many times, and a complaint about what most of these replies say is not believed: the user may be wrong
    (docs/labels.md). Only short answers agree word for word.
    """

    FIXED: ClassVar[dict[str, float]] = {"max_similarity": 0.98}

    name: Annotated[str, AfterValidator(known_recipe), Field(examples=list(RECIPE_RULES))] = "drift"
    guided_share: Annotated[
        float | Literal["auto"], BeforeValidator(share_or_auto), Field(examples=["a share", "auto"])
    ] = GUIDED_SHARE
    guidance: Guidance = "turn"
    guidance_prompts: int = Field(default=GUIDANCE_PROMPTS, ge=FEWEST_GUIDANCE_PROMPTS)
    samples: PositiveInt = 1
    scorer: ScorerSettings | None = None
    pairs: PositiveInt | None = None
    retire_below: PositiveFloat | None = None
    only_wins: bool = False
    win_probability: float = Field(default=0.5, ge=0.5, lt=1.0)
    match_length: bool = False
    own_majority: int | None = Field(default=None, ge=3)  # of two replies there is no majority

    @property
    def rules(self) -> RecipeRules:
        return RECIPE_RULES[self.name]

    @property
    def known_guided_share(self) -> float:
        """`guided_share` once it is known. Raises ConfigError for `auto`, which the loop replaces by a share."""
        if self.guided_share == "auto":
            raise ConfigError("recipe.guided_share: auto is measured by `drift run`; set a share from 0 to 1 here.")
        return self.guided_share

    @model_validator(mode="after")
    def _fits_the_recipe(self) -> "RecipeSettings":
        rules = self.rules
        fixed = " or ".join(name for name, other in RECIPE_RULES.items() if other.fixed_rejected)
        unranked = " or ".join(name for name, other in RECIPE_RULES.items() if other.matches_length)
        if (self.scorer or self.only_wins) and not rules.scored:
            raise ValueError(f"recipe {self.name} does not use scores: remove recipe.scorer and recipe.only_wins")
        if self.scorer and self.scorer.name == "hindsight" and not rules.guides:
            raise ValueError(
                f"scorer hindsight reads the complaint about the logged reply, and the prompts of recipe {self.name} "
                "have none: set recipe.scorer.name to another scorer"
            )
        if self.guided_share == "auto" and not rules.guides:
            guided = " or ".join(name for name, other in RECIPE_RULES.items() if other.guides and not other.once)
            raise ValueError(
                f"recipe {self.name} shows no complaint to the policy, so guided_share: auto measures nothing: set "
                f"recipe.guided_share=0, or recipe.name to {guided}"
            )
        check_complaints(self.name, self.guided_share, self.own_majority)
        if rules.ranks and (self.scorer is None or self.samples < 2):
            raise ValueError(
                f"{self.name} ranks several replies: set recipe.scorer.name, and recipe.samples to 2 or more"
            )
        if self.only_wins and self.scorer is None:
            raise ValueError("only_wins needs a scorer: set recipe.scorer.name")
        if self.win_probability > 0.5 and not self.only_wins:
            raise ValueError("win_probability says which wins count: set recipe.only_wins=true, or remove it")
        if self.win_probability > 0.5 and self.scorer and self.scorer.name not in SCORERS_OF_LOG_ODDS:
            fitting = " or ".join(SCORERS_OF_LOG_ODDS)
            raise ValueError(
                f"win_probability needs a scorer whose margin is the log-odds of a win, {fitting}; that of "
                f"{self.scorer.name} has another unit: remove win_probability, or change recipe.scorer.name"
            )
        if self.match_length and (self.samples < 2 or not rules.matches_length):
            raise ValueError(
                f"match_length chooses among the samples of a prompt: it needs recipe {unranked}, and recipe.samples "
                "of 2 or more"
            )
        if self.retire_below is not None and not rules.fixed_rejected:
            raise ValueError(f"retire_below needs fresh chosen replies against a fixed logged reply: recipe {fixed}")
        return self


class ExperimentalVllm(Settings):
    """For experiments. `seeds`: send a seed with each request. vLLM on a CPU fails on seeds: set it to false there."""

    seeds: bool = True


class VllmSettings(Settings):
    """How the vLLM server is started.

    `command`: the command that starts it, for example with the python of another environment. `gpus`: one replica per
    GPU of this machine; an empty list starts one replica that sees every GPU, or with `cluster.address` one on every
    `cluster.gpus_per_replica` GPUs of the cluster. `arguments`: further arguments of the server. `start_seconds`:
    maximum time to load the policy.
    """

    MOVED: ClassVar[tuple[str, ...]] = ("seeds",)

    command: str = "python -m vllm.entrypoints.openai.api_server"
    gpus: tuple[int, ...] = ()
    arguments: tuple[str, ...] = ()
    start_seconds: PositiveFloat = 900.0
    experimental: ExperimentalVllm = ExperimentalVllm()


class SamplingSettings(Settings):
    """How replies are generated.

    `max_new_tokens`: maximum tokens per generated reply. `max_prompt_length`: a longer prompt loses its
    oldest turns; if it is still too long, it is dropped and counted.
    `batch_tokens`: limit of prompts x (longest prompt + new tokens) in one batch (transformers only).
    `unfinished`: what becomes of a pair with a reply that reached the token limit. `match` trains on neither side's
    end token and cuts the other side at the same length; `drop` drops the pair. `backend`: transformers in this
    process, a vLLM server that drift starts (both also in the workers of `cluster`), or the server that `endpoint`
    names.
    """

    RENAMED: ClassVar[dict[str, tuple[str, dict[Any, str]]]] = {
        "drop_truncated": ("unfinished", {False: "match", True: "drop"})
    }

    temperature: float = Field(default=0.7, ge=0.0)
    top_p: float = Field(default=0.9, gt=0.0, le=1.0)
    max_new_tokens: PositiveInt = 512
    max_prompt_length: PositiveInt = 2048
    batch_tokens: PositiveInt = 32768
    unfinished: Unfinished = "match"
    backend: BackendName = "transformers"
    vllm: VllmSettings = VllmSettings()
    endpoint: EndpointSettings | None = None

    @model_validator(mode="after")
    def _names_its_server(self) -> "SamplingSettings":
        if self.backend == "endpoint" and self.endpoint is None:
            raise ValueError("backend endpoint needs a server: set sampling.endpoint.base_url and .model")
        if self.endpoint is not None and self.endpoint.max_tokens is not None:
            raise ValueError("endpoint.max_tokens is for judges; set sampling.max_new_tokens, the limit of a reply")
        return self


class EvaluationSettings(Settings):
    """What is measured after each iteration.

    `split`: hold out conversations by hash, or the latest ones (`time`), which are closest to future use.
    `temperatures`: where the true utility is known (the sandbox), measure it at each of these; 0 is greedy.
    `samples`: replies per prompt and temperature. `max_prompts`, `max_length`: limits of what is measured;
    `max_length` also of what a scorer reads and the feedback reward learns from.
    """

    split: Literal["hash", "time"] = "hash"
    temperatures: tuple[NonNegativeFloat, ...] = (1.0, 0.7, 0.0)
    samples: PositiveInt = 1
    max_prompts: PositiveInt = 500
    max_length: PositiveInt = 2048


class GenerationSettings(Settings):
    """What a run that starts from an earlier one (`from`) learns from (docs/production.md).

    `replay`: share of the prompts that are older complaints. New complaints come from the requests of one period and
    from one policy; with nothing else to learn from, a policy forgets what it learned before. A quarter keeps most of
    the training on what is new. Replies to them are sampled anew and their references are measured anew, as for any
    prompt; 0 replays nothing. `deployed`: the name that the logs give the earlier run's policy (a conversation's
    `model`). Complaints about its replies come first, and one that repeats what was trained on before counts as new;
    about another model's reply it counts as trained on. null: every conversation that came since counts as its own.
    """

    replay: float = Field(default=0.25, ge=0.0, lt=1.0)
    deployed: str | None = None


_UNUSED = {"from": None, "generation": GenerationSettings().model_dump(), "defence": DefenceSettings().model_dump()}


class Config(Settings):
    """A run reads `logs` into `store` (default: RUN/store) and writes everything else to `output` (default:
    runs/NAME-HASH).

    `threads`: CPU threads of the models. null uses what the machine offers when the run starts; a resumed run keeps
    that number. `from`: the folder of a finished run, to start from its policy and its store and learn from what came
    since; `policy.model` stays the model that the first run of the chain started from.
    """

    name: Annotated[str, AfterValidator(folder_name)] = "drift"
    logs: tuple[str, ...] = ()
    store: str | None = None
    output: str | None = None
    seed: Seed = 42
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
    defence: DefenceSettings = DefenceSettings()
    parent: str | None = Field(default=None, alias="from")
    generation: GenerationSettings = GenerationSettings()
    cluster: ClusterSettings = ClusterSettings()

    @model_serializer(mode="wrap")
    def _without_unused_sections(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A run without a chain or a defence is written, and named, as before there were any; where it works is no part
        of it."""
        tree = plain(self)
        del tree["cluster"]
        later = {"from": tree.pop("parent"), "generation": tree.pop("generation"), "defence": tree.pop("defence")}
        return tree | {name: value for name, value in later.items() if value != _UNUSED[name]}

    @model_validator(mode="after")
    def _loss_fits_the_recipe(self) -> "Config":
        check_loss(self.recipe.name, self.training.loss)
        return self

    @model_validator(mode="after")
    def _vllm_serves_the_adapter(self) -> "Config":
        lora = self.policy.lora
        if self.sampling.backend == "vllm" and lora is not None and lora.r > LORA_RANKS[-1]:
            raise ValueError(
                f"policy.lora.r={lora.r}, and vLLM serves adapters of rank {LORA_RANKS[-1]} or less: set policy.lora.r "
                f"to {LORA_RANKS[-1]} or less, or sampling.backend=transformers"
            )
        return self

    @field_serializer("logs")
    def _logs_without_passwords(self, logs: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(without_password, logs))
