"""The two models of a gate: a run, a folder, an id, or a server. Answers are kept, so that the same command resumes."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from drift.errors import ConfigError, DataError
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
from drift.gate.items import plain_request
from drift.policy.model import Policy, load_policy
from drift.records import Completion, PreferencePair, PromptItem, read_jsonl
from drift.rundir import RunView, layout, load_run
from drift.rundir.chain import ancestors


class Side:
    """One model. `folder`: where its answers are kept; `temperature`: 0 is greedy."""

    def __init__(self, source: str, folder: Path, dtype: str, seed: int, temperature: float) -> None:
        if source == "logs" or Path(source).suffix in FILES:
            raise ConfigError(
                f"{source}: a gate asks both models its own questions, so it needs models and not replies: give a run, "
                "a model's folder or id, or URL#MODEL."
            )
        self.source = source
        self._folder, self._dtype, self._seed, self._temperature = folder, dtype, seed, temperature
        if not self.is_served:
            policy_source(source)  # reports a run without a policy before anything is sampled

    @property
    def is_served(self) -> bool:
        return self.source.startswith(("http://", "https://"))

    @cached_property
    def policy(self) -> Policy:
        """Loaded once. Only where the model runs in this process."""
        return load_policy(policy_source(self.source), policy_settings(self.source, self._dtype))

    @cached_property
    def identity(self) -> str:
        """The id of its weights; of a server, its address and the name of the model."""
        return self.source if self.is_served else self.policy.policy_id

    def release(self) -> None:
        """Give the memory back until the weights are needed again; their id stays known."""
        _ = self.identity
        self.__dict__.pop("policy", None)

    def answers(self, requests: Sequence[EvalRequest], max_new_tokens: int) -> Mapping[str, Completion]:
        """By item id; an item without an answer is missing (its prompt does not fit, or the server failed)."""
        sampling = sampling_at(self._temperature, max_new_tokens)
        settings = ReplySettings(sampling, self._folder, self._dtype, self._seed)
        if self.is_served:
            return make_replies(self.source, requests, settings).by_item
        return replies_of_policy(self.source, self.policy, requests, settings).by_item


def run_of(source: str) -> Path | None:
    """The run that a model is, or lies in (RUN/policy, RUN/iteration-2/policy)."""
    path = Path(source)
    return next((folder for folder in (path, *path.absolute().parents[:2]) if layout.is_run(folder)), None)


def trained_requests(sources: Sequence[str]) -> set[str] | None:
    """The user messages in what the models' runs, and the runs before them, were trained on (`plain_request`).

    None if no model belongs to a run. Raises DataError if a run of the chain is missing: what it was trained on is then
    not known.
    """
    runs = {run for source in sources if (run := run_of(source))}
    views = {view.path.absolute(): view for run in runs for view in _chain(load_run(run))}
    if not views:
        return None
    return {plain_request(text) for view in views.values() for text in _requests(view)}


def _chain(run: RunView) -> list[RunView]:
    """The run and those that it builds on."""
    earlier = ancestors(run)
    missing = run.state.generation - 1 - len(earlier)
    if missing > 0:
        raise DataError(
            f"{run.path}: {missing} earlier run{'s' * (missing > 1)} of its chain cannot be found, so what they were "
            "trained on is not known. Put the folders back (`drift runs` names them), or compare the folders of the "
            "policies outside of the runs."
        )
    return [run, *earlier]


def _requests(view: RunView) -> Iterator[str]:
    for name in view.pair_files:
        for pair in read_jsonl(view.path / name, PreferencePair):
            yield from (message.content for message in pair.prompt if message.role == "user")
    if prompts := view.file(layout.PROMPTS):
        for item in read_jsonl(prompts, PromptItem):
            yield from (message.content for message in item.prompt if message.role == "user")
