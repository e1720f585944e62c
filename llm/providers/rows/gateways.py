"""Gateways before other providers: one key for many models. Pure."""

from __future__ import annotations

from llm.providers.row import EVERY, Row

ROWS: dict[str, Row] = {
    "302ai": Row("https://api.302.ai/v1", "302AI_API_KEY", "https://doc.302.ai", "2026-07-02"),
    "abacus": Row("https://routellm.abacus.ai/v1", "ABACUS_API_KEY", "https://abacus.ai/help/api", "2026-07-02"),
    "aihubmix": Row(
        "https://aihubmix.com/v1",
        "AIHUBMIX_API_KEY",
        "https://docs.aihubmix.com",
        "2026-10-21",
        endpoints=("embeddings", "images/generations"),
    ),
    "aiml": Row(
        "https://api.aimlapi.com/v1",
        "AIML_API_KEY",
        "https://docs.aimlapi.com/",
        "2026-10-21",
        endpoints=("embeddings", "images/generations"),
    ),
    "anyapi": Row("https://api.anyapi.ai/v1", "ANYAPI_API_KEY", "https://docs.anyapi.ai", "2026-07-02"),
    "apertis": Row(
        "https://api.stima.tech/v1",
        "STIMA_API_KEY",
        "https://docs.litellm.ai/docs/providers/apertis",
        "2026-10-21",
        lacks=("max_completion_tokens",),
    ),
    "assemblyai": Row(
        "https://llm-gateway.assemblyai.com/v1",
        "ASSEMBLYAI_API_KEY",
        "https://www.assemblyai.com/docs/llm-gateway",
        "2026-10-21",
    ),
    "auriko": Row("https://api.auriko.ai/v1", "AURIKO_API_KEY", "https://docs.auriko.ai", "2026-07-02"),
    "charity_engine": Row(
        "https://api.charityengine.services/remotejobs/v2/inference",
        "CHARITY_ENGINE_API_KEY",
        "https://docs.litellm.ai/docs/providers/charity_engine",
        "2026-10-21",
        lacks=("max_completion_tokens",),
    ),
    "cometapi": Row(
        "https://api.cometapi.com/v1",
        "COMETAPI_KEY",
        "https://api.cometapi.com/doc",
        "2026-10-21",
        endpoints=("embeddings", "images/generations"),
    ),
    "cortecs": Row(
        "https://api.cortecs.ai/v1",
        "CORTECS_API_KEY",
        "https://docs.cortecs.ai",
        "2026-10-21",
        formats=("chat", "messages"),
    ),
    "edenai": Row(
        "https://api.edenai.run/v3",
        "EDENAI_API_KEY",
        "https://www.edenai.co/docs",
        "2026-10-26",
        endpoints=("embeddings", "images/generations", "audio/speech", "audio/transcriptions"),
    ),
    "empiriolabs": Row(
        "https://api.empiriolabs.ai/v1",
        "EMPIRIOLABS_API_KEY",
        "https://docs.litellm.ai/docs/providers/empiriolabs",
        "2026-10-21",
        lacks=("max_completion_tokens",),
    ),
    "fastrouter": Row(
        "https://go.fastrouter.ai/api/v1", "FASTROUTER_API_KEY", "https://fastrouter.ai/models", "2026-07-02"
    ),
    "github": Row(
        "https://models.github.ai/inference",
        "GITHUB_TOKEN",
        "https://docs.github.com/en/github-models",
        "2026-10-26",
        endpoints=("embeddings",),
    ),
    "helicone": Row(
        "https://ai-gateway.helicone.ai/v1",
        "HELICONE_API_KEY",
        "https://docs.helicone.ai/gateway/overview",
        "2026-07-02",
    ),
    "jiekou": Row(
        "https://api.jiekou.ai/openai", "JIEKOU_API_KEY", "https://docs.jiekou.ai/docs/support/quickstart", "2026-07-02"
    ),
    "kilo": Row("https://api.kilo.ai/api/gateway", "KILO_API_KEY", "https://kilo.ai", "2026-07-02"),
    "llmgateway": Row("https://api.llmgateway.io/v1", "LLMGATEWAY_API_KEY", "https://llmgateway.io/docs", "2026-07-02"),
    "litellm_proxy": Row(
        None,
        "LITELLM_PROXY_API_KEY",
        "https://docs.litellm.ai/docs/simple_proxy",
        "2026-10-21",
        formats=("chat", "messages", "responses"),
        endpoints=EVERY,
        note="`base_url` is your proxy's",
    ),
    "nano_gpt": Row(
        "https://nano-gpt.com/api/v1",
        "NANOGPT_API_KEY",
        "https://docs.nano-gpt.com",
        "2026-10-21",
        endpoints=("embeddings", "images/generations"),
        lacks=("max_completion_tokens",),
    ),
    "opencode": Row("https://opencode.ai/zen/v1", "OPENCODE_API_KEY", "https://opencode.ai/docs/zen", "2026-07-02"),
    "openrouter": Row(
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        "https://openrouter.ai/docs/api-reference/overview",
        "2026-10-26",
        formats=("chat", "messages"),
        endpoints=("embeddings", "completions"),
    ),
    "orcarouter": Row("https://api.orcarouter.ai/v1", "ORCAROUTER_API_KEY", "https://docs.orcarouter.ai", "2026-07-02"),
    "poe": Row(
        "https://api.poe.com/v1",
        "POE_API_KEY",
        "https://creator.poe.com/docs/external-applications/openai-compatible-api",
        "2026-10-21",
        lacks=("max_completion_tokens",),
    ),
    "portkey": Row("https://api.portkey.ai/v1", "PORTKEY_API_KEY", "https://portkey.ai/docs", "2026-10-26"),
    "requesty": Row(
        "https://router.requesty.ai/v1",
        "REQUESTY_API_KEY",
        "https://docs.requesty.ai",
        "2026-10-26",
        endpoints=("embeddings",),
    ),
    "vercel_ai_gateway": Row(
        "https://ai-gateway.vercel.sh/v1",
        "AI_GATEWAY_API_KEY",
        "https://vercel.com/docs/ai-gateway",
        "2026-10-21",
        formats=("chat", "messages"),
        endpoints=("embeddings",),
    ),
    "vivgrid": Row("https://api.vivgrid.com/v1", "VIVGRID_API_KEY", "https://docs.vivgrid.com/models", "2026-07-02"),
    "zenmux": Row("https://zenmux.ai/api/v1", "ZENMUX_API_KEY", "https://docs.zenmux.ai", "2026-07-02"),
}
