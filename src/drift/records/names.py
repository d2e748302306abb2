"""The names that settings and records allow, and the reasons for which rows are dropped."""

from enum import StrEnum
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]
Split = Literal["train", "stop", "validation", "test"]
Verdict = Literal["SAT", "DSAT", "NEUTRAL", "ABSTAIN"]
LabelSource = Literal["embedded", "judge", "rating", "review", "source"]
RatingKind = Literal["regeneration", "score", "thumb", "correction"]
"""The weakest first: `Rating.rank` relies on it. A regeneration is read out of what a user did, the rest was said."""
Finish = Literal["stop", "length", "error"]
LossName = Literal[
    "sigmoid",
    "sigmoid_norm",
    "ipo",
    "robust",
    "apo_zero",
    "anchored",
    "anchored_hinge",
    "sft",
    "kto",
    "self_distillation",
]
"""What `training.loss` allows; each has its function in training/loss.py."""
Unfinished = Literal["match", "drop"]
"""What `sampling.unfinished` allows for pairs with a reply that does not end."""
PromptKind = Literal["disliked", "liked", "judged", "followed", "random"]
"""The replies whose requests a recipe uses: judged is disliked or liked, followed is by any message of the user."""
MarginUnit = Literal["sequence", "token"]
Thinking = Literal["off", "keep", "strip"]
"""What `policy.thinking` allows."""
BackendName = Literal["transformers", "vllm", "endpoint"]
"""What `sampling.backend` allows; each is a module of policy/samplers/."""
ScorerName = Literal["self", "hindsight", "feedback", "reward_model", "judge", "oracle", "noisy_oracle"]
"""What `recipe.scorer.name` allows; each has its entry in scoring/scorers.py."""
Guidance = Literal["turn", "hint", "rewrite"]
"""What `recipe.guidance` allows: how a guided prompt shows the complaint. Each is built in policy/guided.py."""
LabellerName = Literal["embedded", "judge", "cascade"]
"""What `labels.labeller` allows."""
JudgeBy = Literal["chat", "decisions"]
"""What `labels.judge_by` allows: the judge writes answers, or gives probabilities of options."""
ApprovalBy = Literal["model", "phrases"]
"""What `labels.approval` allows."""
LanguagesRead = Literal["english", "all"]
"""What `labels.languages` allows."""
PersonalData = Literal[
    "email", "phone", "card", "iban", "ip", "national_id", "address", "api_key", "private_key", "password", "person"
]
"""The kinds of personal data that redaction replaces; `person` needs a model."""


class Reason(StrEnum):
    """Why a row is dropped. Every stage counts its drops under these names."""

    # a row of a log, quarantined
    BROKEN_JSON = "broken_json"
    BROKEN_CSV = "broken_csv"
    NOT_AN_OBJECT = "not_an_object"
    NO_MESSAGES = "no_messages"
    NO_CONVERSATION = "no_conversation"
    UNKNOWN_ROLE = "unknown_role"
    BAD_CONTENT = "bad_content"
    ROLES_OUT_OF_ORDER = "roles_out_of_order"
    NO_USER_TURN = "no_user_turn"
    TOO_LARGE = "too_large"
    NESTED_TOO_DEEP = "nested_too_deep"
    DUPLICATE_KEYS = "duplicate_keys"
    DAMAGED_STREAM = "damaged_stream"
    CYCLIC_TREE = "cyclic_tree"
    ORPHAN_FEEDBACK = "orphan_feedback"
    # a row of a log that is not a conversation of its own, filtered
    NOT_A_CHAT = "not_a_chat"
    JOINED_AS_EVIDENCE = "joined_as_evidence"
    NO_VERDICT = "no_verdict"
    REPEATED_ROW = "repeated_row"
    # a conversation of a log, filtered
    NO_CONSENT = "no_consent"
    FORGOTTEN = "forgotten"
    # a judged reply, not turned into a prompt or a pair
    NO_REQUEST = "no_request"
    EMPTY_REJECTED = "empty_rejected"
    SEEN_IN_TRAINING = "seen_in_training"
    DUPLICATE_PROMPT = "duplicate_prompt"
    USER_CAP = "user_cap"
    CONTESTED = "contested"
    NEAR_DUPLICATE_CONVERSATION = "near_duplicate_conversation"
    TRAINED_EARLIER = "trained_earlier"
    NOT_REPLAYED = "not_replayed"
    NO_FOLLOW_UP = "no_follow_up"
    REFUSAL_COMPLAINT = "refusal_complaint"
    USER_MISTAKEN = "user_mistaken"
    AGAINST_MAJORITY = "against_majority"
    ABUSE = "abuse"
    TOXIC = "toxic"
    IDENTICAL_REPLIES = "identical_replies"
    NEEDS_IMAGE = "needs_image"
    UNANSWERED_CALL = "unanswered_call"
    BROKEN_TOOL_CALL = "broken_tool_call"
    # a completion or a pair, not trained on
    EMPTY_CHOSEN = "empty_chosen"
    CHOSEN_IS_REJECTED = "chosen_is_rejected"
    TRUNCATED = "truncated"
    SAMPLING_ERROR = "sampling_error"
    PROMPT_TOO_LONG = "prompt_too_long"
    TEMPLATE_REFUSES = "template_refuses"
    TEMPLATE_HIDES = "template_hides"
    NO_REPLY_FORM = "no_reply_form"
    CUT_THOUGHT = "cut_thought"
    THOUGHT_ON_ONE_SIDE = "thought_on_one_side"
    MARK_ON_ONE_SIDE = "mark_on_one_side"
    CALL_ON_ONE_SIDE = "call_on_one_side"
    NEAR_DUPLICATE = "near_duplicate"
    CHOSEN_REFUSES = "chosen_refuses"
    CHOSEN_LOSES = "chosen_loses"
    OTHER_LENGTH = "other_length"
    UNSCORED = "unscored"
    TIED_SCORES = "tied_scores"
    UNLEARNED = "unlearned"
    BEYOND_RECIPE_PAIRS = "beyond_recipe_pairs"
    ECHOES_COMPLAINT = "echoes_complaint"
    ECHO_CAP = "echo_cap"
