"""What an OpenAI-compatible server may do to us, and what becomes of it; the servers are real."""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import PIL.Image
import pytest

from engine.config.backend import Endpoint
from engine.config.select import Select
from engine.errors import TriptychError
from engine.records import Image, Task
from engine.vlm import endpoint
from engine.vlm.backends import open_vlm
from engine.vlm.endpoint import EndpointVLM
from engine.vlm.protocol import Request, Sample, Sampling
from generators.proposer import ProposerSettings, propose
from reward_model.threshold import choose
from tests import pictures
from tests.reward_model.test_select import judged, row
from tests.round_workspace import make_image

PNG = pictures.PNG[make_image(0, "g", "train").id]
TEXT = "<answer>no</answer>"
Reply = tuple[int, Any, dict[str, str]]
Script = Callable[[dict[str, Any], int], Any]


def choice(content: Any = TEXT, logprobs: Any = None) -> dict[str, Any]:
    return {"message": {"content": content}, "logprobs": {"content": logprobs or []}}


def completion(body: dict[str, Any], _: int = 0) -> dict[str, Any]:
    """As many choices as were asked for, of mean log-probability -1."""
    return {"choices": [choice(TEXT, [{"logprob": -0.5}, {"logprob": -1.5}])] * body["n"]}


def refusal(status: int, words: str = "no", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"error": {"message": words}}, named


class Server(ThreadingHTTPServer):
    """Answers request number k with `script(body, k)`: a reply's JSON, (status, JSON or text,
    headers), or None to reset the connection."""

    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.bodies, self.keys = script, [], []
        self.bodies: list[dict[str, Any]]
        self.keys: list[str | None]
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        """Nothing: the test's output stays readable."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.bodies)
            self.server.bodies.append(body)
            self.server.keys.append(self.headers.get("Authorization"))
        said = self.server.script(body, number)
        if said is None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        status, value, headers = said if isinstance(said, tuple) else (200, said, {})
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Script], Server]]:
    """Servers of scripts, with no waits between tries."""
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-hospital")
    opened: list[Server] = []

    def start(script: Script) -> Server:
        opened.append(Server(script))
        return opened[-1]

    yield start
    for server in opened:
        server.shutdown()
        server.server_close()


def ask(server: Server, n: int = 1, requests: int = 1) -> list[list[Sample]]:
    asked = [Request(None, f"question {k}") for k in range(requests)]
    return open_vlm(Endpoint(url=server.url), "m").generate(asked, Sampling(n, seed=7))


def only_first(reply: Any) -> Script:
    """One reply to the first request, and completions to all that come after."""
    return lambda body, number: completion(body) if number else reply


def test_an_endpoint_gives_texts_and_log_probabilities(serve: Any) -> None:
    server = serve(completion)
    vlm = EndpointVLM("any", Endpoint(url=server.url))
    samples = vlm.generate([Request(PNG, "Is there a cyst?")] * 2, Sampling(2, 1.0, 9))
    assert [len(s) for s in samples] == [2, 2]
    assert samples[0][0] == Sample(TEXT, pytest.approx(-1.0), 2)
    image, text = server.bodies[-1]["messages"][0]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert "cyst" in text["text"]
    assert server.keys == ["Bearer sk-of-the-hospital"] * 2
    assert vlm.generate([], Sampling()) == []


def test_a_picture_is_sent_within_the_pixel_budget_and_a_small_one_as_it_is(serve: Any) -> None:
    def ramp(width: int, height: int) -> bytes:
        out = io.BytesIO()
        PIL.Image.linear_gradient("L").resize((width, height)).save(out, "PNG")
        return out.getvalue()

    server = serve(completion)
    vlm = open_vlm(Endpoint(url=server.url), "m", max_pixels=30_000)
    large, small = ramp(3000, 2500), ramp(200, 150)
    for png in (large, small):
        assert vlm.generate([Request(png, "x")], Sampling())[0][0].problem is None
    urls = [body["messages"][0]["content"][0]["image_url"]["url"] for body in server.bodies]
    sent = [base64.b64decode(url.partition("data:image/png;base64,")[2]) for url in urls]
    width, height = PIL.Image.open(io.BytesIO(sent[0])).size
    assert 0.98 * 30_000 < width * height <= 30_000
    assert width / height == pytest.approx(3000 / 2500, rel=0.02)
    assert sent[1] == small


@pytest.mark.parametrize(
    "passing",
    [
        None,  # the connection is reset
        refusal(408), refusal(429), refusal(500), refusal(503), refusal(529),
        (502, "<html>bad gateway</html>", {}),
        (200, "<html>not ready</html>", {}),
        (200, '{"choices": [', {}),
        {"error": {"message": "upstream overloaded", "code": 502}},
        {"error": {"message": "slow down", "code": "429"}},
        {"error": "the engine is starting"},
        {"choices": None}, {"choices": []}, {}, {"choices": [None]}, {"choices": [{"text": TEXT}]},
    ],
    ids=str,
)  # fmt: skip
def test_what_passes_is_asked_again(serve: Any, passing: Any) -> None:
    server = serve(only_first(passing))
    assert ask(server)[0][0].text == TEXT
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"error": {"message": "overloaded", "code": 502}}, "200 with error 502: overloaded"),
        ({"error": "starting"}, "200 with error: starting"),
        ({"object": "error", "message": "m", "code": 503}, "200 with error 503: m"),
        ((200, "data: {}", {}), "200 with what is no completion: data: {}"),
        (refusal(503, "busy"), "503: busy"),
    ],
)
def test_an_error_says_what_the_server_answered(serve: Any, odd: Any, said: str) -> None:
    with pytest.raises(TriptychError) as told:
        ask(serve(lambda body, number: odd))
    assert str(told.value).endswith(f"/chat/completions answers {said}")


def test_a_slow_reply_is_asked_for_again(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "TIMEOUT", httpx.Timeout(0.2))

    def slow_once(body: dict[str, Any], number: int) -> dict[str, Any]:
        time.sleep(0 if number else 1)
        return completion(body)

    assert ask(serve(slow_once))[0][0].text == TEXT


@pytest.mark.parametrize("date", [False, True], ids=["seconds", "HTTP date"])
def test_a_server_is_left_alone_as_long_as_it_asks(serve: Any, date: bool) -> None:
    at = []

    def busy_once(body: dict[str, Any], number: int) -> Any:
        at.append(time.time())
        when = formatdate(time.time() + 2, usegmt=True) if date else "1"
        return completion(body) if number else refusal(429, Retry_After=when)

    ask(serve(busy_once))
    assert at[1] - at[0] > 0.9  # dates are of whole seconds


def test_a_server_that_asks_for_an_hour_ends_the_run(serve: Any) -> None:
    with pytest.raises(TriptychError, match="answers 429"):
        ask(serve(lambda body, number: refusal(429, Retry_After="3600")))


def test_a_server_that_ignores_n_is_asked_for_the_rest_with_other_seeds(serve: Any) -> None:
    server = serve(lambda body, number: completion({"n": 1}))
    assert len(ask(server, n=4)[0]) == 4
    assert [body["n"] for body in server.bodies] == [4, 3, 2, 1]
    assert len({body["seed"] for body in server.bodies}) == 4
    assert len(ask(serve(lambda body, number: completion({"n": 9})), n=4)[0]) == 4


def test_a_form_is_sent_in_the_field_that_vllms_server_has_for_it(serve: Any) -> None:
    server = serve(completion)
    vlm = EndpointVLM("m", Endpoint(url=server.url))
    vlm.generate([Request(PNG, "Answer.", form="<answer>(yes|no)</answer>")], Sampling(1))
    vlm.generate([Request(PNG, "Answer.")], Sampling(1))
    held, free = server.bodies
    assert held["structured_outputs"] == {"regex": "<answer>(yes|no)</answer>"}
    assert "structured_outputs" not in free
    assert held.keys() - free.keys() == {"structured_outputs"}


def test_a_server_that_refuses_n_or_logprobs_is_asked_without(serve: Any) -> None:
    def strict(body: dict[str, Any], number: int) -> Any:
        if "logprobs" in body:
            return refusal(400, "logprobs is not supported by this model")
        return refusal(422, "one completion a request") if body["n"] > 1 else completion(body)

    assert [sample.text for sample in ask(serve(strict), n=3)[0]] == [TEXT] * 3


@pytest.mark.parametrize(
    "tokens",
    [
        None, [], "x", [{"token": "x"}], [{"logprob": None}], [{"logprob": "-1"}], [None],
        [{"logprob": -1.0}, {"logprob": None}], [{"logprob": float("nan")}],
        [{"logprob": float("-inf")}], [{"logprob": 0.7}], [{"logprob": True}],
        [{"logprob": 10**400}], [{"logprob": -9999.0}], [{"logprob": -(10**400)}],
    ],
    ids=str,
)  # fmt: skip
def test_a_log_probability_that_is_not_given_is_unknown_and_not_the_surest(
    serve: Any, tokens: Any
) -> None:
    said = {"message": {"content": TEXT}, "logprobs": {"content": tokens}}
    assert ask(serve(lambda body, number: {"choices": [said]}))[0][0].logprob is None
    said["logprobs"] = None
    assert ask(serve(lambda body, number: {"choices": [said]}))[0][0].logprob is None


def test_where_one_log_probability_is_unknown_none_of_the_question_counts() -> None:
    """Otherwise a sample without one would stand beside others at the surest there is, or out."""
    sure, unknown = row(answer="left", logprob=-0.01), row(answer="right", logprob=None)
    chosen = choose([sure, unknown], judged((sure, 0.0), (unknown, 0.1)), Select())
    assert chosen is not None
    assert chosen.triplet is unknown
    told = row(answer="right", logprob=-3.0)
    chosen = choose([sure, told], judged((sure, 0.0), (told, 0.1)), Select())
    assert chosen is not None
    assert chosen.triplet is sure


def test_content_in_parts_is_read(serve: Any) -> None:
    parts = [
        {"type": "text", "text": "<answer>"},
        {"type": "image"},
        {"type": "text", "text": "no"},
    ]
    said = {"choices": [choice([*parts, "</answer>"])]}
    assert ask(serve(lambda body, number: said))[0][0].text == TEXT


def test_a_text_that_no_file_can_hold_is_mended(serve: Any) -> None:
    raw = '{"choices": [{"message": {"content": "<answer>\\ud800</answer>"}}]}'
    assert ask(serve(lambda body, number: (200, raw, {})))[0][0].text == "<answer>?</answer>"


@pytest.mark.parametrize(
    "raw",
    ["[" * 100_000, '{"error": {"code": Infinity, "message": 7}}', '{"error": {"code": [1]}}', "7"],
    ids=range(4),
)
def test_a_reply_made_to_break_its_reader_is_one_line(serve: Any, raw: str) -> None:
    with pytest.raises(TriptychError, match="answers 200 with"):
        ask(serve(lambda body, number: (200, raw, {})))


@pytest.mark.parametrize("content", [None, [], 7, {}, [{"type": "image"}]], ids=str)
def test_choices_that_never_come_are_samples_with_a_problem(serve: Any, content: Any) -> None:
    def one_of_two(body: dict[str, Any], number: int) -> Any:
        return {
            "choices": [choice(), choice(content)][: body["n"]]
            if number == 0
            else [choice(content)]
        }

    given, missing = ask(serve(one_of_two), n=2)[0]
    assert given.problem is None
    assert (missing.text, missing.logprob) == ("", None)
    assert "gives a message without text" in str(missing.problem)


@pytest.mark.parametrize(
    "fault",
    [refusal(400), refusal(413), refusal(500), refusal(403), None, {"choices": []}],
    ids=str,
)
def test_one_bad_request_is_a_sample_with_a_problem(serve: Any, fault: Any) -> None:
    def one_bad(body: dict[str, Any], number: int) -> Any:
        return fault if "question 1" in str(body) else completion(body)

    samples = ask(serve(one_bad), n=2, requests=3)
    assert [[s.problem is None for s in row] for row in samples] == [
        [True, True], [False], [True, True],
    ]  # fmt: skip


def test_a_batch_of_bad_requests_does_not_end_a_run(serve: Any) -> None:
    """A small question that is answered tells them from a server that refuses everything."""

    def picky(body: dict[str, Any], number: int) -> Any:
        return refusal(400, "prompt too long") if "question" in str(body) else completion(body)

    assert all(s.problem for [s] in ask(serve(picky), requests=2))
    with pytest.raises(TriptychError, match="answers 400: no such field: seed"):
        ask(serve(lambda body, number: refusal(400, "no such field: seed")), requests=2)


@pytest.mark.parametrize("status", [401, 402, 404, 405])
def test_what_no_request_would_be_spared_ends_the_run_at_once(serve: Any, status: int) -> None:
    server = serve(lambda body, number: refusal(status, "no such model here"))
    with pytest.raises(TriptychError, match=rf"answers {status}: no such model here"):
        ask(server)
    assert len(server.bodies) == 1


def test_a_server_that_is_gone_in_a_batch_ends_the_run_and_not_its_rows(serve: Any) -> None:
    """Rows with a problem are never asked again; a run that ended is taken up where it stopped."""
    server = serve(lambda body, number: None if number > 1 else completion(body))
    with pytest.raises(TriptychError, match="does not answer"):
        ask(server, requests=6)


def test_an_endpoint_that_is_not_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 0.01)
    with pytest.raises(TriptychError, match="does not answer"):
        open_vlm(Endpoint(url="http://127.0.0.1:9/v1"), "m").generate(
            [Request(None, "")], Sampling()
        )


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "ftp://host/v1", "http://", "http://h:port/v1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(TriptychError, match="no address of a server"):
        open_vlm(Endpoint(url=url), "m")


def test_the_key_does_not_follow_a_redirect(serve: Any) -> None:
    elsewhere = serve(completion)
    target = f"{elsewhere.url}/chat/completions"
    for status in (301, 302, 307, 308):
        server = serve(lambda body, number, s=status: (s, "", {"Location": target}))
        with pytest.raises(TriptychError, match="a redirect"):
            ask(server)
    assert elsewhere.bodies == []


def test_neither_key_nor_password_nor_escape_sequence_is_in_an_error(serve: Any) -> None:
    words = "wrong key: Bearer sk-of-the-hospital \x1b[2J\x1b]0;owned\x07"
    server = serve(lambda body, number: refusal(401, words))
    url = server.url.replace("http://", "http://me:hunter2@")
    with pytest.raises(TriptychError) as refused:
        open_vlm(Endpoint(url=url), "m").generate([Request(None, "")], Sampling())
    assert "wrong key: Bearer [key]" in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert "hospital" not in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("key", ["sk-\nof-two-lines", "sk-ключ"])
def test_a_key_that_cannot_be_sent_is_refused_unsaid(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(TriptychError, match="OPENAI_API_KEY") as refused:
        open_vlm(Endpoint(url="http://127.0.0.1:9/v1"), "m")
    assert key not in str(refused.value)


def test_a_request_that_fails_is_a_triplet_with_its_problem(serve: Any) -> None:
    """Asked or answering, and the others of the batch are whole."""
    question = "<question>Which side?</question><options>no | yes</options>"

    def server(body: dict[str, Any], number: int) -> Any:
        text = str(body["messages"][0]["content"][-1]["text"])
        if "MR" in text:
            return refusal(400, "no picture of this kind")
        if "Which side" not in text:
            return {"choices": [choice(question)]}
        return {"choices": [choice()]} if number % 2 else {"choices": None}

    image: Image = make_image(0, "g", "train")
    tasks = [Task.make(kind, "side", "easy", "closed", "direct") for kind in ("CT", "MR")]
    plan = ProposerSettings("m", "compact", 2, 0.6, 1.0, 48, 0, 1)
    vlm = EndpointVLM("m", Endpoint(url=serve(server).url))
    *answered, failed = propose(vlm, pictures.PNG, [(image.id, task) for task in tasks], plan)
    assert [t.question for t in answered] == ["Which side?"] * 2
    assert [t.problem for t in answered if t.problem] == [f"answer: {vlm.name} gives no choices"]
    assert failed.problem == f"question: {vlm.name} answers 400: no picture of this kind"
    assert failed.logprob is None
