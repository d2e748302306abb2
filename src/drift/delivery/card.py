"""The model card: README.md with the Hub's metadata. It holds counts and measures, and no text of any conversation."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from drift.delivery.facts import CardFacts, shown_name
from drift.statistics import Share

if TYPE_CHECKING:
    from drift.policy.adapter import Merged  # loads torch, which a copy of whole weights does not need

CARD = "README.md"


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
    return environment.get_template("card.md.jinja").render(
        facts=facts,
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
