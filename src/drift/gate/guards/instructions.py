"""Verifiable instructions: requests of the instructions world, in topics and wordings that its logs never use."""

import random
from functools import partial

from drift.gate.items import DrawnItem, asked
from drift.records import Completion
from drift.sandbox.instructions.assignment import Assignment, RequestMix, draw_request
from drift.sandbox.instructions.constraints import KINDS
from drift.sandbox.instructions.truth import judge

MIX = RequestMix()
"""One to three constraints of every kind that a single request can bring."""


def draw_instructions(rng: random.Random, number: int) -> DrawnItem:
    """The kinds of constraints take turns."""
    kinds = [name for name in KINDS if name in MIX.absolute]
    assignment = draw_request(rng, "test", kinds[number % len(kinds)], MIX)
    return asked(assignment.asked, partial(instruction_problems, assignment=assignment))


def instruction_problems(answer: Completion, assignment: Assignment) -> tuple[str, ...]:
    """The constraints that do not hold, and what else is wrong: unfinished, off topic, degenerate."""
    return judge(assignment, answer.text, answer.finish).failed
