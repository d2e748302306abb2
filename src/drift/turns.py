"""Does a reply decline to help? Asked of replies that users disliked and of fresh ones."""

import re

READS = 400  # characters: a refusal comes first
_UNABLE = r"(?:can(?:not|['\u2019]t)|could not|won['\u2019]t|will not|(?: am|['\u2019]m) (?:not able|unable) to)"
_HELP = r"(?:help|assist|provide|comply|fulfil|engage|create|generate|write|do th(?:at|is)|support|discuss|answer)"
_REFUSAL = re.compile(
    rf"\bI(?: really| also)? ?{_UNABLE}(?: \w+){{0,3}}? ?{_HELP}|\bunable to {_HELP}"
    r"|\bagainst (?:my|our|the) (?:\w+ )?(?:guidelines|policy|policies|programming)"
    r"|\bviolates? (?:\w+ ){0,3}(?:polic|guidelines)"
    r"|\b(?:not|never) (?:appropriate|ethical|legal) (?:for me )?to\b",
    re.IGNORECASE,
)


def is_refusal(reply: str) -> bool:
    """Does the reply begin by declining to help? Apologies for a mistake do not."""
    return _REFUSAL.search(reply[:READS]) is not None
