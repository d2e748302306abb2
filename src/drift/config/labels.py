"""Who decides which replies users disliked, and which of them are used."""

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from drift.config.endpoint import EndpointSettings
from drift.config.section import Settings
from drift.records import ApprovalBy, JudgeBy, LabellerName, LanguagesRead


class ExperimentalLabels(Settings):
    """For experiments. `audit_share`: share of the other turns that the judge of a cascade also labels, chosen at
    random, to measure what the cascade misses.
    """

    audit_share: float = Field(default=0.05, ge=0.0, le=1.0)


class LabelSettings(Settings):
    """Who decides which replies the users disliked, and which of them are used.

    `min_p_dsat`: a reply counts as disliked if its DSAT probability is at least this (labels from the logs always
    count). `labeller`: `embedded` (the classifier that ships), `judge` (the model behind `endpoint` labels every turn)
    or `cascade` (the embedded labeller labels every turn, and the judge relabels those with p_dsat >= `judge_from`).
    `judge_by`: the judge writes answers (`chat`), or gives probabilities from a decision endpoint (`decisions`).
    `approval`: what finds thanks and praise: the embedded classifier alone (`model`), or also a grammar of English
    thanks and praise (`phrases`), which finds more, also before a further request. `languages`: what the embedded
    labeller reads: `english`, or `all`, which adds twelve languages; it abstains from the rest. `rubric`: a rubric
    file; null uses the one that ships. `include`: kinds of complaints that give pairs only if they are named here.
    `fresh_not_better`: share of fresh replies that are not better than the disliked reply, as measured in `drift
    review`; it adds to the noise of each pair. `max_per_user`: maximum training prompts per user (per chat, if
    the log names no user). 100 bounds a flood; against a user who plants a behaviour set 3
    (docs/poisoning.md), and null if many people share one user id.
    """

    MOVED: ClassVar[tuple[str, ...]] = ("audit_share",)

    min_p_dsat: float = Field(default=0.5, ge=0.5, le=1.0)
    labeller: LabellerName = "embedded"
    endpoint: EndpointSettings | None = None
    rubric: str | None = None
    judge_by: JudgeBy = "chat"
    judge_from: float = Field(default=0.2, ge=0.0, le=1.0)
    approval: ApprovalBy = "model"
    languages: LanguagesRead = "english"
    include: tuple[Literal["refusal_complaint", "user_mistaken", "abuse", "toxic"], ...] = ()
    fresh_not_better: float = Field(default=0.0, ge=0.0, le=1.0)
    max_per_user: PositiveInt | None = 100
    experimental: ExperimentalLabels = ExperimentalLabels()

    @model_validator(mode="after")
    def _has_a_judge(self) -> "LabelSettings":
        if self.labeller != "embedded" and self.endpoint is None:
            raise ValueError(f"labeller {self.labeller} needs a server: set labels.endpoint.base_url and .model")
        return self
