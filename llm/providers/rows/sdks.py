"""Services that speak no format of the hub's: reached by any-llm-sdk, if it is installed (docs/decisions). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Sdk:
    """How any-llm-sdk reaches a service."""

    name: str
    """What any-llm-sdk calls it; its parts for the service are its extra of that name."""
    key_variable: str | None
    """None: its SDK finds credentials by itself, as `note` says."""
    page: str
    seen: str
    base_url: Literal["never", "may", "must"] = "never"
    """Whether an entry says where it is."""
    options: tuple[tuple[str, str], ...] = ()
    """Further arguments of the SDK and the variables that hold them."""
    note: str = ""


ROWS: dict[str, Sdk] = {
    "azure_ai": Sdk(
        "azure",
        "AZURE_API_KEY",
        "https://learn.microsoft.com/en-us/python/api/azure-ai-inference/azure.ai.inference",
        "2026-10-26",
        base_url="must",
    ),
    "azure_anthropic": Sdk(
        "azureanthropic",
        "AZURE_ANTHROPIC_API_KEY",
        "https://learn.microsoft.com/en-us/azure/ai-foundry/model-inference/concepts/models",
        "2026-10-26",
        base_url="must",
    ),
    "bedrock": Sdk(
        "bedrock",
        "AWS_BEARER_TOKEN_BEDROCK",
        "https://docs.aws.amazon.com/bedrock/latest/userguide/models-supported.html",
        "2026-10-26",
        base_url="may",
        note="without the key the usual credentials of AWS; `AWS_REGION`",
    ),
    "cohere_chat": Sdk("cohere", "COHERE_API_KEY", "https://docs.cohere.com/docs/models", "2026-10-26"),
    "google": Sdk("gemini", "GEMINI_API_KEY", "https://ai.google.dev/gemini-api/docs", "2026-10-26", base_url="may"),
    "sagemaker": Sdk(
        "sagemaker",
        None,
        "https://aws.amazon.com/sagemaker/",
        "2026-10-26",
        base_url="may",
        note="the usual credentials of AWS",
    ),
    "vertex_ai": Sdk(
        "vertexai",
        None,
        "https://cloud.google.com/vertex-ai/docs",
        "2026-10-26",
        note="Google's application default credentials; `GOOGLE_CLOUD_PROJECT`, `GOOGLE_CLOUD_LOCATION`",
    ),
    "vertex_ai_anthropic": Sdk(
        "vertexaianthropic",
        None,
        "https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/use-claude",
        "2026-10-26",
        note="Google's application default credentials; `GOOGLE_CLOUD_PROJECT`, `GOOGLE_CLOUD_LOCATION`",
    ),
    "watsonx": Sdk(
        "watsonx",
        "WATSONX_API_KEY",
        "https://www.ibm.com/watsonx",
        "2026-10-26",
        base_url="must",
        options=(("project_id", "WATSONX_PROJECT_ID"),),
        note="`WATSONX_PROJECT_ID`",
    ),
}
