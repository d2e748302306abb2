"""Recall and precision of redaction, by kind, on generated personal data and look-alikes.

Usage: python benchmarks/redaction.py [--planted 300] [--look-alikes 150] [--seed 0] [--json]
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from look_alikes import LOOK_ALIKES
from planted import CARRIERS, PLANTED

from drift.logs.redaction import find
from drift.logs.redaction.finder import detectors_for
from drift.logs.redaction.span import PersonalSpan

LEADS = (
    *("call me at", "my phone is", "Tel:", "WhatsApp", "mobile number", "phone:", "Fax", "you can reach me on"),
    *("SSN:", "CPF", "SIN:", "Aadhaar number", "Steuer-ID:", "mailto:", ":8080", "/24", "root@", ",12/27,123", ",5"),
)
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Case:
    """`kind`: what was planted at `places`; a look-alike has a name and no place."""

    kind: str
    text: str
    value: str
    places: tuple[Place, ...]


def cases(planted: int, look_alikes: int, seed: int) -> Iterator[Case]:
    rng = random.Random(seed)
    for kind, make in PLANTED.items():
        for _ in range(planted):
            value = make(rng)
            yield Case(kind, *placed(rng.choice(CARRIERS), value))
    for name, make in LOOK_ALIKES.items():
        for _ in range(look_alikes):
            text, value, _ = placed(rng.choice(CARRIERS), make(rng))
            yield Case(name, text, value, ())


def measure(planted: int, look_alikes: int, seed: int) -> dict[str, Any]:
    """Texts go through the gates and the detectors as those of a log do."""
    found, missed, wrong = Counter[str](), Counter[str](), Counter[str]()
    errors: dict[str, list[str]] = {}
    some = list(cases(planted, look_alikes, seed))
    for case, detectors in zip(some, detectors_for([case.text for case in some]), strict=True):
        spans = find(case.text, detectors)
        for place in case.places:
            right = [span for span in spans if span.kind == case.kind and overlap(span, place)]
            (found if covers(case, right) else missed)[case.kind] += 1
            if not covers(case, right):
                errors.setdefault(f"missed {case.kind}", []).append(case.text)
        for span in spans:
            if not any(overlap(span, place) for place in case.places):
                wrong[span.kind] += 1
                errors.setdefault(f"wrong {span.kind}", []).append(f"{case.text[span.start : span.end]} in {case.text}")
    table = {
        kind: {
            "planted": found[kind] + missed[kind],
            "recall": round(found[kind] / (found[kind] + missed[kind]), 4),
            "precision": round(found[kind] / max(found[kind] + wrong[kind], 1), 4),
        }
        for kind in PLANTED
    }
    counts = {"planted": sum((found + missed).values()), "look_alikes": look_alikes * len(LOOK_ALIKES)}
    return {"seed": seed, **counts, "kinds": table, "errors": errors}


def overlap(span: PersonalSpan, place: Place) -> bool:
    return span.start < place[1] and place[0] < span.end


def placed(carrier: str, value: str) -> tuple[str, str, tuple[Place, ...]]:
    """The text, the value, and where in the text it stands."""
    before, after = carrier.replace("{{", "{").replace("}}", "}").split("{}")
    return before + value + after, value, ((len(before), len(before) + len(value)),)


def covers(case: Case, right: list[PersonalSpan]) -> bool:
    """Is all of the secret gone? What leads to it ("Tel:", the rest of a URL) may stay."""
    if not right or case.kind in ("password", "api_key", "address"):
        return bool(right)
    rest = case.value
    for span in right:
        rest = rest.replace(case.text[span.start : span.end], "")
    for lead in LEADS:
        rest = rest.replace(lead, "")
    return not rest.strip(" <>")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planted", type=int, default=300, help="items of each kind")
    parser.add_argument("--look-alikes", type=int, default=150, help="of each sort")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--examples", type=int, default=0, help="show so many errors of each sort")
    args = parser.parse_args()
    result = measure(args.planted, args.look_alikes, args.seed)
    for name, texts in result.pop("errors").items():
        for text in texts[: args.examples]:
            print(f"{name}: {text!r}")
    print(f"{'kind':12} planted  recall  precision")
    for kind, row in result["kinds"].items():
        print(f"{kind:12} {row['planted']:7} {row['recall']:7.3f} {row['precision']:10.3f}")
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
