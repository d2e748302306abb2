"""What servers honour, ignore, refuse or invent."""

import pytest

from drift.config import EndpointSettings
from drift.endpoint import Capabilities, ChatRequest, Endpoint, Reply, Unanswered, probe, require_model
from drift.errors import PrerequisiteError
from drift.progress import listening
from drift.records import ChatMessage

PLAIN = Capabilities(False, False, True, False, False, False)


def full(said):
    """A server that does everything."""

    def answer(path, body, number):
        if path == "/v1/models":
            return said({"data": [{"id": "tiny"}, {"id": "big"}]})
        if path == "/v1/systemone":
            return said({"answers": {name: {"probabilities": {"yes": 0.9, "no": 0.1}} for name in body["questions"]}})
        kind = (body.get("response_format") or {}).get("type")
        text = {"json_schema": '{"colour": "red"}', "json_object": '{"a": 1'}.get(kind, "The sea is wide.")
        logprobs = {
            "content": [{"token": "a", "logprob": -1, "top_logprobs": [{"token": t, "logprob": -1} for t in "ab"]}]
        }
        choice = {"message": {"content": text}, "logprobs": logprobs if body.get("logprobs") else None}
        return said({"choices": [choice] * body.get("n", 1)})

    return answer


def test_a_server_that_does_everything(serve, said, settings):
    with Endpoint(settings(serve(full(said)))) as endpoint:
        able = probe(endpoint)
    assert able == Capabilities(True, True, True, True, True, True)
    assert able.line() == "supports n, logprobs, seed, JSON schema, JSON mode, decision endpoint"


def test_a_server_that_ignores_what_it_does_not_know(serve, said, settings):
    server = serve(lambda path, *_: said.chat("The sea is wide.") if "chat" in path else said(b"no", 500))
    with Endpoint(settings(server, retries=5)) as endpoint:
        able = probe(endpoint)
    assert able == PLAIN
    assert able.line() == "supports seed; not n, logprobs, JSON schema, JSON mode, decision endpoint"
    assert len(server.requests) <= 9


def test_a_server_that_refuses_features(serve, said, settings):
    def strict(path, body, number):
        known = {"model", "messages", "max_tokens", "temperature", "seed"}
        if "chat" not in path:
            return said(b"", 404)
        return said({"error": "unknown"}, 400) if set(body) - known else said.chat(f"The sea, {number}.")

    with Endpoint(settings(serve(strict))) as endpoint:
        assert probe(endpoint) == Capabilities(False, False, False, False, False, False)


@pytest.mark.parametrize(
    ("message", "repeats"),
    [
        (lambda _: {"content": None}, False),
        (lambda _: {"content": "\n"}, False),
        (lambda number: {"content": None, "reasoning": f"Sea, {number}"}, False),
        (lambda _: {"content": None, "reasoning": "The sea"}, True),
    ],
)
def test_an_empty_reply_says_nothing_about_seeds(serve, said, settings, message, repeats):
    """A model that thinks is cut at the few tokens of a probe."""
    server = serve(lambda path, body, number: said.chat("", message=message(number), finish_reason="length"))
    with Endpoint(settings(server)) as endpoint:
        assert probe(endpoint).repeats == repeats


def modern(said):
    """A server whose models refuse what OpenAI's newer ones refuse, in the words of their errors."""

    def answer(path, body, number):
        if "chat" not in path:
            return said(b"", 404)
        if "max_tokens" in body:
            what = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
        elif body.get("logprobs"):
            return said({"error": {"message": "You are not allowed to request logprobs from this model."}}, 403)
        elif "top_p" in body:
            what = "Unsupported parameter: 'top_p' is not supported with this model."
        elif "temperature" in body:
            what = "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) is."
        else:
            return said.chat("B")
        return said({"error": {"message": what}}, 400)

    return answer


@pytest.mark.parametrize("probed", [True, False])
def test_newer_models_are_asked_their_way(serve, said, settings, ask, probed):
    server, notes = serve(modern(said)), []
    with Endpoint(settings(server)) as endpoint, listening(lambda *_: None, notes.append):
        if probed:
            assert not probe(endpoint).logprobs
        outcomes = list(endpoint.ask_many(ask(f"hi {i}", temperature=0.0, top_p=0.9) for i in range(9)))
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert server.chats()[-1]["max_completion_tokens"] == 20
    assert not {"max_tokens", "temperature", "top_p"} & set(server.chats()[-1])
    assert len({note.rpartition(": ")[2] for note in notes}) == 2  # temperature and top_p are said, by name


@pytest.mark.parametrize(
    "error",
    [
        "`temperature` is deprecated for this model.",
        "`temperature` may only be set to 1 when thinking is enabled.",
        "`temperature` and `top_p` cannot both be specified for this model.",
    ],
)
def test_what_servers_say_of_a_temperature_is_followed(serve, said, settings, ask, error):
    refused = {"top_p"} if "both" in error else {"temperature"}
    server = serve(
        lambda path, body, number: said({"error": {"message": error}}, 400) if refused & set(body) else said.chat("ok")
    )
    with Endpoint(settings(server)) as endpoint:
        outcomes = [endpoint.ask(ask(f"hi {n}", temperature=0.7, top_p=0.9)) for n in range(2)]
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert len(server.chats()) == 3  # refused once
    assert {"temperature", "top_p"} - set(server.chats()[-1]) == refused


def test_what_did_not_help_is_sent_again(serve, said, settings, ask):
    """The error lists every parameter by name, and is about none of them."""
    listing = "Unsupported content. Parameters: 'temperature', 'top_p'."
    server = serve(
        lambda path, body, number: said({"error": {"message": listing}}, 400) if number < 4 else said.chat("ok")
    )
    with Endpoint(settings(server)) as endpoint:
        assert isinstance(endpoint.ask(ask("bad", temperature=0.7, top_p=0.9)), Unanswered)
        assert isinstance(endpoint.ask(ask("good", temperature=0.7, top_p=0.9)), Reply)
    assert {"temperature", "top_p"} <= set(server.chats()[-1])


@pytest.mark.parametrize("listed", ["forbidden", "tiny:latest", "models/tiny"])
def test_a_list_of_models_that_may_not_be_read_or_names_them_otherwise(serve, said, settings, listed):
    models = said(b"no", 403) if listed == "forbidden" else said({"data": [{"id": listed}]})
    server = serve(
        lambda path, *_: models if path == "/v1/models" else said.chat("ok") if "chat" in path else said(b"", 404)
    )
    with Endpoint(settings(server)) as endpoint:
        require_model(endpoint)
    assert len(server.chats()) == 1  # the chat itself decides


def test_a_request_refused_for_another_reason_stays_refused(serve, said, settings, ask):
    server = serve(lambda *_: said({"error": {"message": "This role is not supported: temperature of 40 C?"}}, 400))
    with Endpoint(settings(server)) as endpoint:
        assert isinstance(endpoint.ask(ask()), Unanswered)  # the word temperature names no parameter here
    assert len(server.chats()) == 1


@pytest.mark.parametrize("case", ["other model", "no chat", "nobody"])
def test_what_is_missing_is_one_line(serve, said, settings, case):
    if case == "nobody":
        made = EndpointSettings(base_url="http://127.0.0.1:1", model="tiny")
    elif case == "no chat":
        made = settings(serve(lambda *_: said({"detail": "Not Found"}, 404)))
    else:
        made = settings(serve(full(said)), model="huge")
    told = {
        "other model": "does not serve the model 'huge'. It serves: tiny, big",
        "no chat": "404",
        "nobody": "no server",
    }
    with Endpoint(made) as endpoint, pytest.raises(PrerequisiteError, match=told[case]) as error:
        probe(endpoint)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_real_local_server(transformers_serve):
    with Endpoint(transformers_serve) as endpoint:
        able = probe(endpoint)
        assert (able.many, able.logprobs, able.json_schema) == (False, False, False)  # 5.23 ignores them
        replies = list(endpoint.ask_many(ChatRequest((ChatMessage("user", f"{n}"),), max_tokens=8) for n in range(6)))
    assert all(isinstance(reply, Reply) and reply.usage.reported for reply in replies)
