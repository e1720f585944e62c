"""OpenAI's chat completions and Anthropic's Messages, said in one another: what both can say survives there and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.translate import chat_to_messages, messages_to_chat
from llm.translate.mcp_blocks import untangled
from registry.errors import InvalidRequest

texts = st.text(min_size=1, max_size=20)
names = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
data = st.from_regex(r"[A-Za-z0-9+/]{4,16}", fullmatch=True)
values = st.recursive(st.none() | st.booleans() | st.integers(0, 99) | texts, lambda inner: st.lists(inner, max_size=3))
inputs = st.dictionaries(texts, values, max_size=3)
schemas = st.fixed_dictionaries({"type": st.just("object"), "properties": st.dictionaries(names, st.just({}))})

text_blocks = st.fixed_dictionaries({"type": st.just("text"), "text": texts})
sources = st.one_of(
    st.fixed_dictionaries({"type": st.just("base64"), "media_type": st.just("image/png"), "data": data}),
    st.fixed_dictionaries({"type": st.just("url"), "url": st.just("https://example.com/a.png")}),
)
images = st.fixed_dictionaries({"type": st.just("image"), "source": sources})
documents = st.fixed_dictionaries(
    {
        "type": st.just("document"),
        "source": st.fixed_dictionaries(
            {"type": st.just("base64"), "media_type": st.just("application/pdf"), "data": data}
        ),
        "title": texts,
    }
)
users = st.lists(st.one_of(text_blocks, images, documents), min_size=1, max_size=3)
calls = st.lists(st.tuples(names, inputs, texts), min_size=1, max_size=3)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A conversation in Anthropic's format as both formats can say it."""
    said: list[dict[str, Any]] = [{"role": "user", "content": draw(users)}]
    for turn in range(draw(st.integers(0, 3))):
        opening = [draw(text_blocks)] if draw(st.booleans()) else []
        made = draw(st.just([]) | calls) if opening else draw(calls)
        uses = [
            {"type": "tool_use", "id": f"call_{turn}_{n}", "name": name, "input": given}
            for n, (name, given, _) in enumerate(made)
        ]
        results = [
            {"type": "tool_result", "tool_use_id": f"call_{turn}_{n}", "content": result}
            for n, (_, _, result) in enumerate(made)
        ]
        said.append({"role": "assistant", "content": [*opening, *uses]})
        after = draw(users) if not results or draw(st.booleans()) else []
        said.append({"role": "user", "content": [*results, *after]})
    return said


tools = st.fixed_dictionaries(
    {"name": names, "input_schema": schemas}, optional={"description": texts, "strict": st.booleans()}
)
choices = st.one_of(
    st.sampled_from([{"type": "auto"}, {"type": "any"}, {"type": "none"}]),
    st.fixed_dictionaries({"type": st.just("tool"), "name": names}),
    st.fixed_dictionaries({"type": st.sampled_from(["auto", "any"]), "disable_parallel_tool_use": st.just(True)}),
)
requests = st.fixed_dictionaries(
    {
        "messages": conversations(),
        "max_tokens": st.integers(1, 9999),
        "tools": st.lists(tools, min_size=1, max_size=3),
    },
    optional={
        "system": texts,
        "temperature": st.floats(0, 1),
        "top_p": st.floats(0, 1),
        "stop_sequences": st.lists(texts, min_size=1, max_size=2),
        "tool_choice": choices,
        "metadata": st.fixed_dictionaries({"user_id": texts}),
    },
)


@given(requests)
def test_what_both_formats_say_survives_there_and_back(request: dict[str, Any]) -> None:
    in_chat = json.loads(json.dumps(messages_to_chat.request(request)))
    assert chat_to_messages.request(in_chat) == request
    assert messages_to_chat.request(chat_to_messages.request(in_chat)) == in_chat


@given(st.sampled_from(["low", "medium", "high", "xhigh"]), schemas)
def test_effort_and_form_survive_there_and_back(effort: str, schema: dict[str, Any]) -> None:
    request = {
        "messages": [],
        "max_tokens": 1,
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": effort, "format": {"type": "json_schema", "schema": schema}},
    }
    assert chat_to_messages.request(messages_to_chat.request(request)) == request


@pytest.mark.parametrize(
    ("budget", "effort"), [(1024, "low"), (4096, "low"), (8000, "medium"), (16_000, "high"), (64_000, "high")]
)
def test_budget_of_thinking_is_an_effort(budget: int, effort: str) -> None:
    asked = {"messages": [], "thinking": {"type": "enabled", "budget_tokens": budget}}
    assert messages_to_chat.request(asked)["reasoning_effort"] == effort


def test_request_of_claude_code_can_be_said_to_an_openai_model() -> None:
    cached = {"cache_control": {"type": "ephemeral"}}
    said = messages_to_chat.request(
        {
            "model": "m",
            "stream": True,
            "max_tokens": 32_000,
            "system": [
                {"type": "text", "text": "You are Claude Code.", **cached},
                {"type": "text", "text": "Be brief."},
            ],
            "metadata": {"user_id": "user_1"},
            "thinking": {"type": "adaptive", "display": "omitted"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "tools": [{"name": "Bash", "description": "Run", "input_schema": {"type": "object"}, **cached}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "ls", **cached}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                        {"type": "redacted_thinking", "data": "AA"},
                        {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "toolu_1",
                            "is_error": True,
                            "content": [
                                {"type": "text", "text": "denied"},
                                {
                                    "type": "image",
                                    "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
                                },
                            ],
                        }
                    ],
                },
            ],
        }
    )
    assert said == {
        "max_completion_tokens": 32_000,
        "user": "user_1",
        "tools": [
            {"type": "function", "function": {"name": "Bash", "description": "Run", "parameters": {"type": "object"}}}
        ],
        "messages": [
            {"role": "system", "content": "You are Claude Code.\n\nBe brief."},
            {"role": "user", "content": "ls"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "toolu_1",
                        "type": "function",
                        "function": {"name": "Bash", "arguments": '{"command":"ls"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "toolu_1", "content": "Error: denied\n[shown below]"},
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}],
            },
        ],
    }


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("top_k", 5),
        ("container", "c"),
        ("tools", [{"type": "web_search_20250305", "name": "web_search"}]),
        ("tool_choice", {"type": "odd"}),
        ("messages", [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]),
        ("messages", [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]),
        ("messages", [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]),
        ("messages", [{"role": "tool", "content": ""}]),
    ],
)
def test_what_chat_cannot_say_is_refused_by_name(member: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        messages_to_chat.request({"messages": [], member: value})
    assert refused.value.member == member


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("n", 2),
        ("seed", 1),
        ("logprobs", True),
        ("response_format", {"type": "json_object"}),
        ("tools", [{"type": "custom", "custom": {"name": "x"}}]),
        ("tool_choice", {"type": "allowed_tools", "allowed_tools": {}}),
        ("messages", [{"role": "user", "content": [{"type": "input_audio"}]}]),
        ("messages", [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]),
        ("messages", [{"role": "function", "content": ""}]),
    ],
)
def test_what_anthropics_format_cannot_say_is_refused_by_name(member: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match="cannot be said") as refused:
        chat_to_messages.request({"messages": [], member: value})
    assert refused.value.member == member


def test_all_parameters_that_are_lacking_are_named() -> None:
    neutral = {"n": 1, "logprobs": False, "frequency_penalty": 0, "seed": None, "store": True}
    assert chat_to_messages.lacking({**neutral, "messages": []}) == []
    assert chat_to_messages.lacking({"seed": 1, "logit_bias": {"1": 2}}) == ["logit_bias", "seed"]


def test_bound_of_tokens_is_given_where_the_caller_has_none() -> None:
    assert chat_to_messages.request({"messages": []})["max_tokens"] == chat_to_messages.MAX_TOKENS
    assert chat_to_messages.request({"messages": [], "max_completion_tokens": 5})["max_tokens"] == 5


def test_odd_calls_of_other_models_are_said_so_that_they_pass() -> None:
    function = {"name": "f", "arguments": "{broken"}
    call = {"id": "functions.f:0", "type": "function", "function": function}
    conversation = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": "no"},
    ]
    _, [asked, told] = chat_to_messages.messages(conversation)
    assert asked["content"] == [
        {"type": "tool_use", "id": "functions_f_0", "name": "f", "input": {"arguments": "{broken"}}
    ]
    assert told["content"][0]["tool_use_id"] == "functions_f_0"


def use(number: int) -> dict[str, Any]:
    return {"type": "mcp_tool_use", "id": f"u{number}", "server_name": "s", "name": "t", "input": {"n": number}}


def result(number: int) -> dict[str, Any]:
    return {
        "type": "mcp_tool_result",
        "tool_use_id": f"u{number}",
        "is_error": number == 2,
        "content": [{"type": "text", "text": f"r{number}"}],
    }


def test_hub_calls_of_the_history_are_turns_of_the_model() -> None:
    own = {"type": "tool_use", "id": "own", "name": "mine", "input": {}}
    answered = {"type": "tool_result", "tool_use_id": "own", "content": "yes"}
    text = {"type": "text", "text": "so"}
    turns = untangled(
        [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": [use(1), use(2), result(1), result(2), text, use(3), own, result(3)]},
            {"role": "user", "content": [answered]},
        ]
    )
    shape = [
        (turn["role"], [block.get("id") or block.get("tool_use_id") or "text" for block in turn["content"]])
        for turn in turns[1:]
    ]
    assert shape == [
        ("assistant", ["u1", "u2"]),
        ("user", ["u1", "u2"]),
        ("assistant", ["text", "u3", "own"]),
        ("user", ["u3", "own"]),
    ]
    assert turns[1]["content"][0] == {"type": "tool_use", "id": "u1", "name": "s__t", "input": {"n": 1}}
    assert turns[2]["content"][1] == {
        "type": "tool_result",
        "tool_use_id": "u2",
        "content": [{"type": "text", "text": "r2"}],
        "is_error": True,
    }


def test_hub_calls_that_nothing_follows_end_with_their_results() -> None:
    turns = untangled([{"role": "assistant", "content": [use(1), result(1)]}])
    assert [turn["role"] for turn in turns] == ["assistant", "user"]
    plain = [{"role": "user", "content": "x"}]
    assert untangled(plain)[0] is plain[0]
