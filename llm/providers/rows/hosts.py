"""Those who run others' models, mostly open ones. Pure."""

from __future__ import annotations

from llm.providers.row import Row

ROWS: dict[str, Row] = {
    "abliteration": Row(
        "https://api.abliteration.ai/v1", "ABLITERATION_API_KEY", "https://docs.abliteration.ai/models", "2026-10-21"
    ),
    "ambient": Row("https://api.ambient.xyz/v1", "AMBIENT_API_KEY", "https://ambient.xyz", "2026-07-02"),
    "atlascloud": Row(
        "https://api.atlascloud.ai/v1", "ATLASCLOUD_API_KEY", "https://www.atlascloud.ai/docs", "2026-10-26"
    ),
    "baseten": Row(
        "https://inference.baseten.co/v1",
        "BASETEN_API_KEY",
        "https://docs.baseten.co/inference/model-apis/overview",
        "2026-10-21",
    ),
    "berget": Row("https://api.berget.ai/v1", "BERGET_API_KEY", "https://api.berget.ai", "2026-07-02"),
    "cerebras": Row(
        "https://api.cerebras.ai/v1",
        "CEREBRAS_API_KEY",
        "https://inference-docs.cerebras.ai/resources/openai",
        "2026-10-26",
    ),
    "chutes": Row(
        "https://llm.chutes.ai/v1",
        "CHUTES_API_KEY",
        "https://chutes.ai/docs",
        "2026-10-21",
        lacks=("max_completion_tokens",),
    ),
    "clarifai": Row(
        "https://api.clarifai.com/v2/ext/openai/v1",
        "CLARIFAI_PAT",
        "https://docs.clarifai.com/compute/inference/",
        "2026-10-21",
    ),
    "compactifai": Row(
        "https://api.compactif.ai/v1", "COMPACTIFAI_API_KEY", "https://docs.compactif.ai/", "2026-10-21"
    ),
    "crof": Row("https://crof.ai/v1", "CROF_API_KEY", "https://crof.ai/docs", "2026-07-02"),
    "darkbloom": Row(
        "https://api.darkbloom.dev/v1",
        "DARKBLOOM_API_KEY",
        "https://docs.litellm.ai/docs/providers/darkbloom",
        "2026-10-21",
        lacks=("max_completion_tokens",),
    ),
    "deepinfra": Row(
        "https://api.deepinfra.com/v1/openai",
        "DEEPINFRA_API_KEY",
        "https://deepinfra.com/docs/openai_api",
        "2026-10-26",
        endpoints=("embeddings", "completions", "images/generations", "audio/speech", "audio/transcriptions"),
    ),
    "dinference": Row("https://api.dinference.com/v1", "DINFERENCE_API_KEY", "https://dinference.com", "2026-07-02"),
    "featherless": Row(
        "https://api.featherless.ai/v1", "FEATHERLESS_API_KEY", "https://featherless.ai/docs/completions", "2026-10-21"
    ),
    "fireworks": Row(
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        "https://fireworks.ai/docs/tools-sdks/openai-compatibility",
        "2026-10-26",
        endpoints=("embeddings", "completions", "rerank"),
    ),
    "friendliai": Row(
        "https://api.friendli.ai/serverless/v1",
        "FRIENDLI_TOKEN",
        "https://friendli.ai/docs/guides/serverless_endpoints/introduction",
        "2026-10-21",
    ),
    "groq": Row(
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
        "https://console.groq.com/docs/openai",
        "2026-10-26",
        endpoints=("audio/speech", "audio/transcriptions", "audio/translations", "files", "batches"),
        lacks=("logit_bias", "logprobs", "top_logprobs", "frequency_penalty", "presence_penalty", "store"),
    ),
    "huggingface": Row(
        "https://router.huggingface.co/v1", "HF_TOKEN", "https://huggingface.co/docs/inference-providers", "2026-07-02"
    ),
    "hyperbolic": Row(
        "https://api.hyperbolic.xyz/v1", "HYPERBOLIC_API_KEY", "https://docs.hyperbolic.xyz/docs/rest-api", "2026-10-21"
    ),
    "inceptron": Row("https://api.inceptron.io/v1", "INCEPTRON_API_KEY", "https://docs.inceptron.io", "2026-07-02"),
    "inference": Row("https://inference.net/v1", "INFERENCE_API_KEY", "https://inference.net/models", "2026-07-02"),
    "io_net": Row(
        "https://api.intelligence.io.solutions/api/v1",
        "IOINTELLIGENCE_API_KEY",
        "https://io.net/docs/guides/intelligence/io-intelligence",
        "2026-07-02",
    ),
    "kenari": Row("https://kenari.id/v1", "KENARI_API_KEY", "https://kenari.id/docs", "2026-10-26"),
    "libertai": Row(
        "https://api.libertai.io/v1",
        "LIBERTAI_API_KEY",
        "https://docs.libertai.io",
        "2026-10-21",
        lacks=("max_completion_tokens",),
    ),
    "lilac": Row(
        "https://api.getlilac.com/v1", "LILAC_API_KEY", "https://docs.getlilac.com/inference/models", "2026-07-02"
    ),
    "meganova": Row("https://api.meganova.ai/v1", "MEGANOVA_API_KEY", "https://docs.meganova.ai", "2026-07-02"),
    "mixlayer": Row("https://models.mixlayer.ai/v1", "MIXLAYER_API_KEY", "https://docs.mixlayer.com", "2026-07-02"),
    "moark": Row(
        "https://moark.com/v1",
        "MOARK_API_KEY",
        "https://moark.com/docs/openapi/v1#tag/%E6%96%87%E6%9C%AC%E7%94%9F%E6%88%90",
        "2026-07-02",
    ),
    "nearai": Row("https://cloud-api.near.ai/v1", "NEARAI_API_KEY", "https://docs.near.ai/", "2026-07-02"),
    "neosantara": Row(
        "https://api.neosantara.xyz/v1",
        "NEOSANTARA_API_KEY",
        "https://docs.neosantara.xyz",
        "2026-10-26",
        endpoints=("embeddings", "images/generations"),
        lacks=("max_completion_tokens",),
    ),
    "neuralwatt": Row(
        "https://api.neuralwatt.com/v1", "NEURALWATT_API_KEY", "https://portal.neuralwatt.com/docs", "2026-07-02"
    ),
    "novita": Row(
        "https://api.novita.ai/openai",
        "NOVITA_API_KEY",
        "https://novita.ai/docs/guides/introduction",
        "2026-07-02",
        endpoints=("embeddings",),
    ),
    "ollama_cloud": Row("https://ollama.com/v1", "OLLAMA_API_KEY", "https://docs.ollama.com/cloud", "2026-07-02"),
    "parasail": Row("https://api.parasail.io/v1", "PARASAIL_API_KEY", "https://docs.parasail.io", "2026-10-21"),
    "pinstripes": Row(
        "https://pinstripes.io/v1",
        "PINSTRIPES_API_KEY",
        "https://docs.litellm.ai/docs/providers/pinstripes",
        "2026-10-21",
        endpoints=("embeddings",),
        lacks=("max_completion_tokens",),
    ),
    "prism": Row(
        "https://api.prisminference.com/v1",
        "PRISM_API_KEY",
        "https://docs.litellm.ai/docs/providers/prism",
        "2026-10-21",
        formats=("chat", "messages"),
    ),
    "publicai": Row(
        "https://api.publicai.co/v1",
        "PUBLICAI_API_KEY",
        "https://platform.publicai.co/docs",
        "2026-10-21",
        lacks=("max_completion_tokens",),
    ),
    "sail": Row(
        "https://api.sailresearch.com/v1",
        "SAIL_API_KEY",
        "https://docs.litellm.ai/docs/providers/sail",
        "2026-10-21",
        formats=("chat", "messages"),
    ),
    "sambanova": Row(
        "https://api.sambanova.ai/v1",
        "SAMBANOVA_API_KEY",
        "https://docs.sambanova.ai/docs/en/features/openai-compatibility",
        "2026-10-26",
        formats=("chat", "messages"),
        endpoints=("embeddings", "audio/transcriptions", "audio/translations"),
    ),
    "scx_ai": Row(
        "https://api.scx.ai/v1",
        "SCX_API_KEY",
        "https://docs.litellm.ai/docs/providers/scx_ai",
        "2026-10-21",
        lacks=("max_completion_tokens",),
    ),
    "siliconflow": Row(
        "https://api.siliconflow.com/v1",
        "SILICONFLOW_API_KEY",
        "https://docs.siliconflow.com/en/api-reference/chat-completions/chat-completions",
        "2026-07-02",
        endpoints=("embeddings", "images/generations", "audio/speech", "audio/transcriptions", "rerank"),
    ),
    "siliconflow_cn": Row(
        "https://api.siliconflow.cn/v1",
        "SILICONFLOW_CN_API_KEY",
        "https://docs.siliconflow.cn/en/api-reference/chat-completions/chat-completions",
        "2026-07-02",
        endpoints=("embeddings", "images/generations", "audio/speech", "audio/transcriptions", "rerank"),
    ),
    "submodel": Row(
        "https://llm.submodel.ai/v1", "SUBMODEL_INSTAGEN_ACCESS_KEY", "https://submodel.gitbook.io", "2026-07-02"
    ),
    "synthetic": Row(
        "https://api.synthetic.new/openai/v1",
        "SYNTHETIC_API_KEY",
        "https://dev.synthetic.new/docs/api/overview",
        "2026-10-21",
        endpoints=("embeddings",),
        lacks=("max_completion_tokens",),
    ),
    "tensormesh": Row(
        "https://serverless.tensormesh.ai/v1",
        "TENSORMESH_INFERENCE_API_KEY",
        "https://docs.litellm.ai/docs/providers/tensormesh",
        "2026-10-21",
        lacks=("max_completion_tokens",),
    ),
    "tinfoil": Row("https://inference.tinfoil.sh/v1", "TINFOIL_API_KEY", "https://docs.tinfoil.sh", "2026-07-02"),
    "together": Row(
        "https://api.together.xyz/v1",
        "TOGETHER_API_KEY",
        "https://docs.together.ai/docs/openai-api-compatibility",
        "2026-10-21",
        endpoints=(
            "embeddings",
            "completions",
            "rerank",
            "images/generations",
            "audio/speech",
            "audio/transcriptions",
            "files",
            "batches",
        ),
    ),
    "venice": Row(
        "https://api.venice.ai/api/v1",
        "VENICE_API_KEY",
        "https://docs.venice.ai",
        "2026-07-02",
        endpoints=("embeddings", "images/generations", "audio/speech"),
    ),
    "jina_ai": Row(
        "https://api.jina.ai/v1",
        "JINA_API_KEY",
        "https://jina.ai/embeddings/",
        "2026-10-21",
        formats=(),
        endpoints=("embeddings", "rerank"),
        note="no chat",
    ),
    "voyage": Row(
        "https://api.voyageai.com/v1",
        "VOYAGE_API_KEY",
        "https://docs.voyageai.com/",
        "2026-10-26",
        formats=(),
        endpoints=("embeddings", "rerank"),
        note="no chat",
    ),
}
