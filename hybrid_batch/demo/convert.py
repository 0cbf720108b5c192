"""Turns a GGUF file into a safetensors folder that vLLM and transformers load (bfloat16).

Run as a program, ``python -m hybrid_batch.demo.convert FILE.gguf FOLDER``, so that the memory it takes goes
back to the system when it ends.  Needs torch, transformers, gguf and accelerate.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def convert(gguf: Path, folder: Path) -> None:
    """Write weights, configuration, tokenizer and chat template of ``gguf`` to ``folder``.

    Raises ``ValueError`` if the chat template of the result does not show the user's words.
    """
    _save_model(gguf, folder)
    _save_tokenizer(gguf, folder)
    _require_chat_template(folder)


def _save_model(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    # The weights are plain numbers now, but the model object still says it is quantized and would be
    # saved as such.
    model.hf_quantizer = None
    model.is_quantized = False
    model.quantization_method = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)


def _save_tokenizer(gguf: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if _pre_tokenizer_kind(gguf) == "smollm":
        _split_digits(tokenizer.backend_tokenizer)
    tokenizer.save_pretrained(folder)


def _pre_tokenizer_kind(gguf: Path) -> str:
    from gguf import GGUFReader

    field = GGUFReader(str(gguf)).fields.get("tokenizer.ggml.pre")
    return str(field.contents()) if field is not None else ""


def _split_digits(backend: Any) -> None:
    """SmolLM splits every digit off before merging; the generic reader of GGUF leaves that step out."""
    from tokenizers import pre_tokenizers

    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def _require_chat_template(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    turns = [{"role": "user", "content": "What is the capital of Peru?"}]
    shown = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    if turns[0]["content"] not in shown:
        raise ValueError(f"chat template of {folder.name} does not show the user's words: {shown!r}")


def versions() -> dict[str, str]:
    """Versions of the libraries that shape the result."""
    from importlib.metadata import version

    return {name: version(name) for name in ("gguf", "safetensors", "torch", "transformers")}


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
    print(json.dumps(versions(), sort_keys=True))
