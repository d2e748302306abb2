"""What the extra `pii` adds: recall and precision of names of people by a spaCy model, and its speed.

Usage: python benchmarks/persons.py --model en_core_web_sm [--seed 0] [--json]
"""

import argparse
import json
import random
import time

from drift.logs.redaction.redact import person_finder

FIRST = (
    *("Maria", "John", "Wei", "Fatima", "Lukas", "Aoife", "José", "Priya", "Kenji", "Olu"),
    *("Anna", "David", "Sofia", "Mohammed", "Emma", "Liam", "Yuki", "Chloe", "Ivan", "Leila"),
)
LAST = (
    *("Silva", "Smith", "Zhang", "Khan", "Müller", "O'Brien", "García", "Patel"),
    *("Sato", "Adeyemi", "Kowalski", "Rossi", "Dubois", "Johnson", "Nguyen", "Haddad"),
)
CARRIERS = (
    "My name is {}, can you write a cover letter for me?",
    "Please write an e-mail to {} about the meeting on Friday.",
    "{} told me that the report is late.",
    "I work with {} at the hospital.",
    "Dear {},\nthank you for your letter.",
    "what does {} mean when she says that the build is broken",
    "name: {}\nrole: nurse",
)
OTHERS = (
    "Write a poem about spring in Paris and London.",
    "How do I sort a list in Python with Pandas?",
    "Explain the Doppler effect and Bayes' theorem.",
    "My Docker container on Ubuntu does not start, Kubernetes says CrashLoopBackOff.",
    "Compare the Tesla Model 3 with the Ford Mustang.",
    "Summarise Hamlet in three sentences.",
    "Is Monday or Tuesday better for the Amazon delivery?",
    "def getName(self): return self.firstName",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="en_core_web_sm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rng, persons = random.Random(args.seed), person_finder(args.model)
    found = missed = wrong = characters = 0
    seconds = 0.0
    names = [f"{rng.choice(FIRST)} {rng.choice(LAST)}" for _ in range(300)]
    for name, text in [(n, rng.choice(CARRIERS).format(n)) for n in names] + [
        ("", rng.choice(OTHERS)) for _ in range(300)
    ]:
        begun = time.process_time()
        spans = list(persons(text))
        seconds, characters = seconds + time.process_time() - begun, characters + len(text)
        at = text.find(name) if name else -1
        covered = [s for s in spans if name and s.start <= at and s.end >= at + len(name)]
        found, missed = found + bool(covered), missed + (bool(name) and not covered)
        wrong += sum(not (name and s.start < at + len(name) and at < s.end) for s in spans)
    told = {
        "model": args.model,
        "recall": round(found / (found + missed), 3),
        "precision": round(found / max(found + wrong, 1), 3),
        "kilobytes_per_second": round(characters / 1000 / seconds, 1),
    }
    print(json.dumps(told) if args.json else told)


if __name__ == "__main__":
    main()
