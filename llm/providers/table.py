"""OpenAI-compatible services, one row each: where they are, which variable holds their key, how it is sent. Pure.

The variables are only named here; `hub/settings.py` reads the environment and hands the values in.
"""

from __future__ import annotations

from dataclasses import dataclass

from llm.types import Format
from registry.entries import Model

OFFLINE = "offline"
"""The provider that ships with the hub (llm/providers/offline.py); it has no row."""


@dataclass(frozen=True, slots=True)
class Row:
    """One service that speaks OpenAI's chat completions."""

    base_url: str | None
    """None: every customer has their own, so the entry must say it."""
    key_variable: str | None
    """None: no key is needed; one that the entry holds is sent."""
    key_header: str = "authorization"
    """`authorization` carries `Bearer KEY`, any other header the bare key."""
    formats: tuple[Format, ...] = ("chat",)
    """What it speaks; the first is spoken when it does not speak the caller's."""
    takes_stream_options: bool = True
    """False: refuses `stream_options`, and sends usage with the last chunk unasked."""


TABLE: dict[str, Row] = {
    "openai": Row("https://api.openai.com/v1", "OPENAI_API_KEY"),
    # the resource's address with /openai/v1, Azure's version-less endpoint; `model` is the deployment
    "azure": Row(None, "AZURE_OPENAI_API_KEY", key_header="api-key"),
    "anthropic": Row("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "cerebras": Row("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "dashscope": Row("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY"),
    "deepinfra": Row("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "deepseek": Row("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "fireworks": Row("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "gemini": Row("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "groq": Row("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "huggingface": Row("https://router.huggingface.co/v1", "HF_TOKEN"),
    "mistral": Row("https://api.mistral.ai/v1", "MISTRAL_API_KEY", takes_stream_options=False),
    "moonshot": Row("https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    "nebius": Row("https://api.tokenfactory.nebius.com/v1", "NEBIUS_API_KEY"),
    "nvidia": Row("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY"),
    "openrouter": Row("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "perplexity": Row("https://api.perplexity.ai", "PERPLEXITY_API_KEY", takes_stream_options=False),
    "sambanova": Row("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "scaleway": Row("https://api.scaleway.ai/v1", "SCW_SECRET_KEY"),
    "together": Row("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "xai": Row("https://api.x.ai/v1", "XAI_API_KEY"),
    # run by their users; the ports are those the programs choose by themselves
    "llamacpp": Row("http://127.0.0.1:8080/v1", None),
    "lmstudio": Row("http://127.0.0.1:1234/v1", None),
    "ollama": Row("http://127.0.0.1:11434/v1", None),
    "vllm": Row("http://127.0.0.1:8000/v1", None),
    # any other service that speaks the format
    "openai_compatible": Row(None, None),
}


def formats_of(model: Model) -> tuple[Format, ...]:
    """The formats that the model's provider speaks."""
    row = TABLE.get(model.provider)
    return ("chat",) if row is None else row.formats


def asks_usage(model: Model) -> bool:
    """Whether the model's provider understands `stream_options.include_usage`."""
    row = TABLE.get(model.provider)
    return row is None or row.takes_stream_options


KEY_VARIABLES = frozenset(row.key_variable for row in TABLE.values() if row.key_variable is not None)
"""What `hub/settings.py` reads for the providers."""

NAMES = frozenset({*TABLE, OFFLINE})
"""What `provider:` may say."""
