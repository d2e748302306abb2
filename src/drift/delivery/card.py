"""The model card: README.md with the Hub's metadata. It holds counts and measures, and no text of any conversation."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from drift.delivery.facts import CardFacts, shown_name
from drift.statistics import Share

if TYPE_CHECKING:
    from drift.policy.adapter import Merged  # loads torch, which a copy of whole weights does not need

CARD = "README.md"


class Lesson(NamedTuple):
    """What an iteration learned from, in words. `{users}`: whose replies they are. `sides`: the rows of a recipe."""

    learned_from: str
    sides: str
    makes_pairs: bool = True


_DISLIKED = "replies that {users} disliked"
_REJECTED = "Each disliked reply is the rejected side of a preference pair; the chosen side is "
_FOLLOWED = "replies and what {users} wrote after them"
LESSONS = {
    "drift": Lesson(_DISLIKED, f"{_REJECTED}a fresh reply of the policy itself."),
    "best_of": Lesson(_DISLIKED, f"{_REJECTED}the best of several fresh replies of the policy, by a scorer."),
    "rlhi": Lesson(_DISLIKED, f"{_REJECTED}the policy's rewrite, which saw the complaint."),
    "iter_dpo": Lesson(
        "requests whose replies {users} disliked",
        "The sides of a preference pair are the best and the worst of several fresh replies, by a scorer.",
    ),
    "logs": Lesson(
        "replies that {users} disliked, and the revised ones that they liked",
        f"{_REJECTED}the revised reply of the same conversation.",
    ),
    "spin": Lesson(
        "replies that {users} liked",
        "Each liked reply is the chosen side of a preference pair; the rejected side is a fresh reply of the policy.",
    ),
    "random_turns": Lesson(
        "replies to {users}, drawn at random",
        "The rejected side of a preference pair is a reply of the logs, whatever its user said; the chosen side is a "
        "fresh reply of the policy itself.",
    ),
    "unpaired": Lesson("replies that {users} liked or disliked", "Each reply stands alone; there are no pairs.", False),
    "liked": Lesson("replies that {users} liked", "It learns to write the liked replies; there are no pairs.", False),
    "follow_up": Lesson(_FOLLOWED, "It learns from replies of the logs; there are no pairs.", False),
    "fresh_follow_up": Lesson(_FOLLOWED, "It learns from fresh replies of the policy; there are no pairs.", False),
}
_ANOTHER = Lesson("replies to {users}", "What its rows are stands in the code of this recipe.", False)
BEFORE_ITERATIONS = {
    "liked start": "liked replies, by supervised training",
    "warm start": "pairs of a disliked reply and the revised one that its user accepted",
}
"""By the stage whose rows they are."""


def write_card(folder: Path, facts: CardFacts, is_adapter: bool, merged: "Merged | None") -> Path:
    """Write `folder`/README.md. `merged`: what the merge measured, if an adapter was merged into the weights."""
    card = folder / CARD
    card.write_text(render_card(facts, is_adapter, merged), encoding="utf-8")
    return card


def render_card(facts: CardFacts, is_adapter: bool, merged: "Merged | None") -> str:
    environment = Environment(
        loader=PackageLoader("drift.delivery", "."), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"interval": _interval, "counts": _counts, "digits": _digits, "name": shown_name}
    lesson = LESSONS.get(facts.recipe, _ANOTHER)
    users = "simulated users" if facts.simulated else "the users in its chat logs"
    return environment.get_template("card.md.jinja").render(
        facts=facts,
        lesson=lesson._replace(learned_from=lesson.learned_from.format(users=users)),
        before_iterations=BEFORE_ITERATIONS,
        merged=merged,
        metadata=yaml.safe_dump(metadata(facts, is_adapter), sort_keys=False),
        public=yaml.safe_dump(facts.settings, sort_keys=False),
    )


def metadata(facts: CardFacts, is_adapter: bool) -> dict[str, Any]:
    """The card's header (huggingface.co/docs/hub/model-cards). What is not known is left out, the licence too."""
    simulated = facts.simulated or facts.simulated_before
    kinds = [name for name, is_one in (("toy", facts.is_toy), ("simulated-users", simulated)) if is_one]
    fields = {
        "license": facts.licence,
        "library_name": "peft" if is_adapter else "transformers",
        "pipeline_tag": "text-generation",
        "base_model": facts.hub_base,
        "base_model_relation": ("adapter" if is_adapter else "finetune") if facts.hub_base else None,
        "tags": ["drift", "preference-optimization", "user-feedback", *kinds],
    }
    return {name: value for name, value in fields.items() if value is not None}


def _interval(share: Share | None) -> str:
    return "not known" if share is None else f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"


def _digits(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"


def _counts(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts if count) or "none"
