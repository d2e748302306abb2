"""Tokenizers like SentencePiece put a space before the first word of a text; a reply is not a first word."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from drift.policy.chat import ChatFormat, encode_completion, encode_prompt, is_written_as, read_completion, reply_form
from drift.records import ChatMessage

LLAMA_2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
PIECES = (
    "▁",
    "▁yes",
    "yes",
    "▁no",
    "no",
    "▁[",
    "[",
    "INST",
    "]",
    "/",
    "▁hi",
    "hi",
    "▁we",
    "we",
    "<",
    "|",
    ">",
    "user",
    "assistant",
)


def tokenizer(template: str, scheme: str = "prepend") -> PreTrainedTokenizerFast:
    """Words as pieces, everything else as bytes. `prepend`: as Llama 2 and Mistral v0.1 (each part of a text between
    control tokens gets the space); `first`: as newer ones (the first part alone)."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    vocabulary |= {piece: 259 + n for n, piece in enumerate(PIECES)}
    letters = "▁abcdefghijklmnopqrstuvwxyzINST[]/<|>"
    vocabulary |= {letter: len(vocabulary) + n for n, letter in enumerate(x for x in letters if x not in vocabulary)}
    merges = []
    for piece in PIECES:
        for end in range(1, len(piece)):
            for part in (piece[:end], piece[end:]):
                vocabulary.setdefault(part, len(vocabulary))
        merges += [(piece[:end], piece[end]) for end in range(1, len(piece))]
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    rules = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    if scheme == "prepend":
        rules.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        rules.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    else:
        rules.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
        rules.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace("▁", "first")])
    rules.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ("<unk>", "<s>", "</s>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=rules, unk_token="<unk>", bos_token="<s>", eos_token="</s>", chat_template=template
    )


ASKED = (ChatMessage("user", "hi"),)


@pytest.mark.parametrize("scheme", ["prepend", "first"])
@pytest.mark.parametrize(
    ("template", "pieces"),
    [
        (LLAMA_2, ["▁yes", "▁", "</s>"]),
        (MISTRAL, ["yes", "</s>"]),
        (ZEPHYR, ["yes", "</s>"]),
    ],
)
def test_a_reply_has_the_pieces_of_the_templates_own_text(scheme, template, pieces):
    chat = ChatFormat(tokenizer(template, scheme))
    prompt = encode_prompt(chat, ASKED, 1000)
    ids = encode_completion(chat, ASKED, ChatMessage("assistant", "yes"), "stop")
    assert chat.tokenizer.convert_ids_to_tokens(list(ids)) == pieces
    whole = chat.tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}], tokenize=False
    )
    own = chat.tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert [*prompt.ids, *ids] == own[: len(prompt.ids) + len(ids)]


def test_a_reply_alone_would_have_had_a_space_piece():
    """What was trained on before, and no model writes."""
    assert tokenizer(MISTRAL).convert_ids_to_tokens(
        tokenizer(MISTRAL)("yes", add_special_tokens=False)["input_ids"]
    ) == ["▁yes"]


@pytest.mark.parametrize("pieces", [["▁yes", "</s>"], ["▁yes", "▁", "</s>"], ["▁", "yes", "</s>"]])
def test_what_a_model_writes_is_the_reply(pieces):
    chat = ChatFormat(tokenizer(LLAMA_2))
    ids = chat.tokenizer.convert_tokens_to_ids(pieces)
    form = reply_form(chat, ASKED)
    assert read_completion(chat.tokenizer, form, ids).text.strip() == "yes"
    text = read_completion(chat.tokenizer, form, ids).text
    assert is_written_as(chat, form, ChatMessage("assistant", text), ids)


def test_several_words_and_an_unfinished_reply():
    chat = ChatFormat(tokenizer(MISTRAL))
    reply = ChatMessage("assistant", "yes we no")
    pieces = {
        finish: chat.tokenizer.convert_ids_to_tokens(list(encode_completion(chat, ASKED, reply, finish)))
        for finish in ("stop", "length")
    }
    assert pieces == {"stop": ["yes", "▁we", "▁no", "</s>"], "length": ["yes", "▁we", "▁no"]}
