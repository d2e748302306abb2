"""A client of OpenAI-compatible servers, hosted or local: for the labelling judge, evaluation judges and samplers.

    settings = EndpointSettings(base_url="http://127.0.0.1:8000/v1", model="tiny")
    with Endpoint(settings, cache=Path("answers.sqlite")) as endpoint:
        capabilities = probe(endpoint)                       # which features the server supports
        request = ChatRequest((ChatMessage("user", "Hi"),), max_tokens=64)
        for outcome in endpoint.ask_many([request, ...]):    # in order; threads inside, the interface is synchronous
            if isinstance(outcome, Unanswered): ...          # failed after all retries; not a bad grade
            else: outcome.text, outcome.choices[0].thoughts, outcome.usage, outcome.cost

It speaks HTTP itself (with httpx2, as the `openai` package does) and does not use that package: the body that is sent
is the body that is hashed for the cache, answers are validated here, Retry-After and the adaptive concurrency see every
attempt, the decision endpoint works the same way, and no header tells the server about this machine.
"""

from drift.endpoint.cache import ANSWERS, Cache
from drift.endpoint.client import Endpoint
from drift.endpoint.cost import CostLimitReached, Spending
from drift.endpoint.exchange import (
    JSON_MODE,
    ChatRequest,
    CompletionRequest,
    DecisionRequest,
    Question,
    Reply,
    Unanswered,
    Usage,
    json_schema_format,
)
from drift.endpoint.message import Candidate, Choice, NoAnswer, remedy, why_unreadable
from drift.endpoint.probe import Capabilities, probe, require_model
from drift.endpoint.thoughts import split_thoughts

__all__ = [
    "ANSWERS",
    "JSON_MODE",
    "Cache",
    "Candidate",
    "Capabilities",
    "ChatRequest",
    "Choice",
    "CompletionRequest",
    "CostLimitReached",
    "DecisionRequest",
    "Endpoint",
    "NoAnswer",
    "Question",
    "Reply",
    "Spending",
    "Unanswered",
    "Usage",
    "json_schema_format",
    "probe",
    "remedy",
    "require_model",
    "split_thoughts",
    "why_unreadable",
]
