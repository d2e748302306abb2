"""Settings: the frozen tree (settings.py has its root) and its YAML files (load.py)."""

from drift.config.cluster import ClusterSettings
from drift.config.defence import DefenceSettings
from drift.config.endpoint import EndpointSettings
from drift.config.labels import ExperimentalLabels, LabelSettings
from drift.config.load import dump_config, explain, load_config, parse_config, read_yaml
from drift.config.mapping_rules import without_password
from drift.config.recipe_rules import RECIPE_RULES, RecipeRules
from drift.config.section import Seed, Settings
from drift.config.settings import (
    ADAPTER_RATE,
    FEWEST_GUIDANCE_PROMPTS,
    GUIDED_SHARE,
    LORA_RANKS,
    Config,
    EvaluationSettings,
    ExperimentalVllm,
    FeedbackRewardSettings,
    GenerationSettings,
    IngestionSettings,
    LoraSettings,
    PolicySettings,
    RecipeSettings,
    SamplingSettings,
    ScorerSettings,
    VllmSettings,
)
from drift.config.training import (
    ExperimentalTraining,
    StopSettings,
    TrainerSettings,
    TrainingSettings,
    WarmStartSettings,
)

__all__ = [
    "ADAPTER_RATE",
    "FEWEST_GUIDANCE_PROMPTS",
    "GUIDED_SHARE",
    "LORA_RANKS",
    "RECIPE_RULES",
    "ClusterSettings",
    "Config",
    "DefenceSettings",
    "EndpointSettings",
    "EvaluationSettings",
    "ExperimentalLabels",
    "ExperimentalTraining",
    "ExperimentalVllm",
    "FeedbackRewardSettings",
    "GenerationSettings",
    "IngestionSettings",
    "LabelSettings",
    "LoraSettings",
    "PolicySettings",
    "RecipeRules",
    "RecipeSettings",
    "SamplingSettings",
    "ScorerSettings",
    "Seed",
    "Settings",
    "StopSettings",
    "TrainerSettings",
    "TrainingSettings",
    "VllmSettings",
    "WarmStartSettings",
    "dump_config",
    "explain",
    "load_config",
    "parse_config",
    "read_yaml",
    "without_password",
]
