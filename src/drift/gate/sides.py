"""The two models of a gate: a run, a folder, an id, or a server. Answers are kept, so that the same command resumes."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from drift.errors import ConfigError
from drift.evals.replies import (
    FILES,
    EvalRequest,
    ReplySettings,
    make_replies,
    policy_settings,
    policy_source,
    replies_of_policy,
    sampling_at,
)
from drift.evals.served import folder_of_served, is_served
from drift.gate.plan import GateSettings
from drift.policy.model import Policy, load_policy, resolve_source
from drift.records import Completion


class AskedModel:
    """One model, as the settings of the gate ask it. Its answers are kept in their folder."""

    def __init__(self, source: str, settings: GateSettings) -> None:
        if source == "logs" or Path(source).suffix in FILES:
            raise ConfigError(
                f"{source}: a gate asks both models its own questions, so it needs models and not replies: give a run, "
                "a model's folder or id, or URL#MODEL."
            )
        self.source = source
        self._settings = settings
        if not self.is_served:
            resolve_source(policy_source(source))  # reports a missing model before the other one is asked

    @property
    def is_served(self) -> bool:
        return is_served(self.source)

    @cached_property
    def policy(self) -> Policy:
        """Loaded once. Only where the model runs in this process."""
        loading = self._settings.loading or policy_settings(self.source, self._settings.dtype)
        return load_policy(policy_source(self.source), loading)

    @cached_property
    def identity(self) -> str:
        """Which model it is; of a server, its address and the name of the model. The same on every day, also for a
        template that shows the date: looks are counted by it."""
        return self.source if self.is_served else self.policy.model_id

    @cached_property
    def folder(self) -> Path:
        """Where what inspect-ai measures of it is kept: another model, or another template, has another one."""
        out = self._settings.out
        return folder_of_served(self.source, out) if self.is_served else out / f"policy-{self.policy.answers_id}"

    def release(self) -> None:
        """Give the memory back until the weights are needed again; their id stays known."""
        _ = self.identity, self.folder
        self.__dict__.pop("policy", None)

    def answers(self, requests: Sequence[EvalRequest], max_new_tokens: int) -> Mapping[str, Completion]:
        """By item id; an item without an answer is missing (its prompt does not fit, or the server failed)."""
        asked = self._settings
        sampling = sampling_at(asked.temperature, max_new_tokens)
        settings = ReplySettings(sampling, asked.out, asked.dtype, asked.seed, asked.side_pricing)
        if self.is_served:
            return make_replies(self.source, requests, settings).by_item
        return replies_of_policy(self.source, self.policy, requests, settings).by_item
