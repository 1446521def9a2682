"""How servers say that the context is full, and what is made of it: real messages, one of each kind of server."""

import pytest
from support.model_server import Answer, ModelServer, Request, Step, call, refusal

from lisrt.agent import Agent, ExitReason, Model

pytest.importorskip("openai")

pytestmark = pytest.mark.usefixtures("working_host")

WORDS = {
    "llama.cpp": "request (4031 tokens) exceeds the available context size (2048 tokens), try increasing it",
    "llama.cpp, older": "the request exceeds the available context size. try increasing the context size or enable context shift",
    "llama.cpp, in a reply": "Context size has been exceeded.",
    "llama-cpp-python": "Requested tokens (2285) exceed context window of 2048",
    "vLLM": "This model's maximum context length is 200 tokens. However, your request has 203 input tokens. Please reduce the "
    "length of the input messages.",
    "vLLM, engine": "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
    "SGLang": "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
    "LM Studio": "The number of tokens to keep from the initial prompt is greater than the context length.",
    "OpenAI, responses": "Your input exceeds the context window of this model. Please adjust your input and try again.",
    "xAI": "This model's maximum prompt length is 131072 but the request contains 136973 tokens.",
    "Anthropic": "input length and `max_tokens` exceed context limit: 195000 + 20000 > 200000",
    "Groq": "Please reduce the length of the messages or completion.",
}


def play(*steps: Step, retries: int = 0, max_tokens: int | None = None) -> tuple[str, str, ModelServer]:
    """Reason and error of an episode with these answers."""
    with ModelServer(steps) as server:
        model = Model("m", server.base_url, retries=retries, retry_delay=0.001, max_tokens=max_tokens)
        episode = Agent(model).run_sync("a task")
    return episode.exit_reason, episode.error or "", server


@pytest.mark.parametrize("server", WORDS)
@pytest.mark.parametrize("status", [400, 500])
def test_it_is_said_in_words(server: str, status: int) -> None:
    """At once: no try more would help."""
    reason, error, asked = play(refusal(status, WORDS[server]), call("submit"), retries=2)
    assert reason == ExitReason.CONTEXT_EXCEEDED
    assert WORDS[server][:60] in error
    assert len(asked.requests) == 1


@pytest.mark.parametrize(
    "words",
    ["Rate limit reached: too many tokens per minute", "max_tokens is too large: 500", "no such model", "the input is empty"],
)
def test_other_words_say_something_else(words: str) -> None:
    assert play(refusal(400, words))[0] == ExitReason.MODEL_ERROR


def test_fewer_tokens_are_asked_for_until_they_fit() -> None:
    """vLLM names the least number of tokens that would be too many, not how many there were."""
    size, prompt = 8192, 5000

    def model(request: Request) -> Answer:
        wanted = request.body["max_tokens"]
        if prompt + wanted <= size:
            return call("submit")
        return refusal(
            400,
            f"You passed {size - wanted + 1} input tokens and requested {wanted} output tokens. However, the model's context "
            f"length is only {size} tokens, resulting in a maximum input length of {size - wanted} tokens. Please reduce the "
            f"length of the input prompt. (parameter=input_tokens, value={size - wanted + 1})",
        )

    with ModelServer(model) as server:
        episode = Agent(Model("m", server.base_url, max_tokens=7000)).run_sync("a task")
    assert episode.exit_reason == ExitReason.SUBMITTED
    asked = [request.body["max_tokens"] for request in server.requests]
    assert asked == [7000, 3500, 1750]


def test_a_prompt_that_never_fits_ends() -> None:
    def model(request: Request) -> Answer:
        wanted = request.body["max_tokens"]
        return refusal(
            400,
            f"You passed {8193 - wanted} input tokens and requested {wanted} output tokens. However, the model's context length "
            f"is only 8192 tokens, resulting in a maximum input length of {8192 - wanted} tokens.",
        )

    with ModelServer(model) as server:
        episode = Agent(Model("m", server.base_url, max_tokens=7000)).run_sync("a task")
    assert episode.exit_reason == ExitReason.CONTEXT_EXCEEDED
    assert [request.body["max_tokens"] for request in server.requests] == [7000, 3500, 1750, 875, 437]


def test_no_more_observations_go_than_must() -> None:
    """Seven are fewer than the eight that would stay at first: three stay, not one."""
    seen: list[list[bool]] = []

    def model(request: Request) -> Answer:
        answers = [one["content"] for one in request.messages if one["role"] == "tool"]
        if len(answers) < 7:
            return call("execute_bash", command="seq 100")
        if not any("left out" in one for one in answers):
            return refusal(400, WORDS["llama.cpp"])
        seen.append(["left out" in one for one in answers])
        return call("submit")

    with ModelServer(model) as server:
        episode = Agent(Model("m", server.base_url), on_overflow="trim").run_sync("a task")
    assert episode.exit_reason == ExitReason.SUBMITTED
    assert seen == [[True] * 4 + [False] * 3]
