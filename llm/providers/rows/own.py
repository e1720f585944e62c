"""Programs that their users run: the ports are those the programs choose by themselves. Pure."""

from __future__ import annotations

from llm.providers.row import EVERY, NULL_CONTENT, Row

ROWS: dict[str, Row] = {
    "llamacpp": Row(
        "http://127.0.0.1:8080/v1",
        None,
        "https://github.com/ggml-org/llama.cpp/tree/master/tools/server",
        "2026-10-26",
        endpoints=("embeddings", "completions", "rerank"),
    ),
    "llama_cpp_python": Row(
        "http://127.0.0.1:8000/v1",
        None,
        "https://github.com/abetlen/llama-cpp-python/blob/main/docs/server.md",
        "2026-03-29",
        endpoints=("embeddings", "completions"),
        lacks=("stream_options", "max_completion_tokens", "parallel_tool_calls", NULL_CONTENT),
    ),
    "lmstudio": Row(
        "http://127.0.0.1:1234/v1",
        None,
        "https://lmstudio.ai/docs/developer/openai-compat",
        "2026-10-26",
        endpoints=("embeddings", "completions"),
    ),
    "ollama": Row(
        "http://127.0.0.1:11434/v1",
        None,
        "https://docs.ollama.com/api/openai-compatibility",
        "2026-10-26",
        endpoints=("embeddings", "completions"),
    ),
    "vllm": Row(
        "http://127.0.0.1:8000/v1",
        None,
        "https://docs.vllm.ai/en/latest/serving/openai_compatible_server/",
        "2026-10-26",
        endpoints=("embeddings", "completions", "rerank", "audio/transcriptions", "audio/translations"),
    ),
    "docker_model_runner": Row(
        "http://127.0.0.1:12434/engines/v1",
        None,
        "https://docs.docker.com/ai/model-runner/api-reference/",
        "2026-10-21",
        endpoints=("embeddings",),
    ),
    "infinity": Row(
        "http://127.0.0.1:7997",
        None,
        "https://michaelfeil.eu/infinity/",
        "2026-10-21",
        formats=(),
        endpoints=("embeddings", "rerank"),
        note="no chat",
    ),
    "jan": Row("http://127.0.0.1:1337/v1", None, "https://www.jan.ai/docs/desktop/api-server", "2026-07-02"),
    "lemonade": Row(
        "http://127.0.0.1:8000/api/v1",
        None,
        "https://lemonade-server.ai/docs/server/server_spec/",
        "2026-10-21",
        endpoints=("embeddings", "rerank"),
    ),
    "llamafile": Row(
        "http://127.0.0.1:8080/v1",
        None,
        "https://github.com/mozilla-ai/llamafile",
        "2026-10-26",
        endpoints=("embeddings",),
    ),
    "sglang": Row(
        "http://127.0.0.1:30000/v1",
        None,
        "https://docs.sglang.ai/basic_usage/openai_api.html",
        "2026-07-02",
        endpoints=("embeddings",),
    ),
    "xinference": Row(
        "http://127.0.0.1:9997/v1",
        None,
        "https://inference.readthedocs.io/en/latest/",
        "2026-10-21",
        endpoints=("embeddings", "images/generations", "audio/speech", "audio/transcriptions", "rerank"),
    ),
    "openai_compatible": Row(
        None,
        None,
        "https://platform.openai.com/docs/api-reference/chat",
        "2026-10-26",
        formats=("chat",),
        endpoints=EVERY,
        note="any other service that speaks the format",
    ),
}
