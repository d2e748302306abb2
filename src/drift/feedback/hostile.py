"""Complaints that must not teach: about a refusal that was right, abuse that names nothing, flagged content.

A complaint is an attack's way in: whoever is refused complains, and a pair made of it would train the refusal away.
Such complaints are DSAT still, with a subtype that keeps them out of pairs by default. A judge that reads the request
can tell a right refusal (`refusal_complaint`) from one that was not called for (`over_refusal`); without one, every
complaint about a refusal is held back.
"""

import re
from dataclasses import replace

from drift.records import Conversation, FeedbackLabel
from drift.refusals import is_refusal

_WORD = re.compile(r"[a-z']+|[^\W\d_]+")
_INSULTS = """
asshole bastard bitch bullshit crap cunt damn dick die dumb dumbass fuck fucked fucker fuckin fucking idiot
idiotic imbecile jerk kys loser moron moronic motherfucker pathetic piss retard retarded scum shit shitty shut
stfu stupid suck sucks trash useless worthless
"""
_FILLERS = """
a ai all an and are as ass assistant be bot chatbot chatgpt computer go god gpt hate hell holy i i'm is it
it's just kill little machine me my o of off oh omg piece please program really robot so such that that's the
thing this to totally u up ur very what wtf you you're your yourself
"""
_INSULT_WORDS = frozenset(_INSULTS.split())
_INSULT_OR_FILLER = _INSULT_WORDS | frozenset(_FILLERS.split())


def marked(conversation: Conversation, label: FeedbackLabel) -> FeedbackLabel:
    """The label, with its subtype if it is such a complaint. What a reviewer said stands as it is."""
    if label.label != "DSAT" or label.labeller == "review":
        return label
    reply = conversation.messages[label.reply_index].content
    said = conversation.messages[label.user_index].content if label.user_index is not None else ""
    told = [place for place in (label.reply_index - 1, label.reply_index, label.user_index) if place is not None]
    if conversation.is_toxic(*(place for place in told if place >= 0)):
        return replace(label, subtype="toxic")
    if label.labeller == "judge":
        return label
    if is_refusal(reply):
        return replace(label, subtype="refusal_complaint")
    return replace(label, subtype="abuse") if is_bare_abuse(said) else label


def is_bare_abuse(text: str) -> bool:
    """Insults and nothing else: no word is left that could say what was wrong."""
    words = _WORD.findall(text.lower())
    return any(word in _INSULT_WORDS for word in words) and all(word in _INSULT_OR_FILLER for word in words)
