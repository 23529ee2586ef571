"""The word-level tokenizer of all small text models: one token per word of the scenes' captions.

It is a BERT tokenizer with a small vocabulary. The end token [SEP] has the highest number of all, because
CLIP's text towers take their pooled output there: open_clip by the largest number, transformers by name.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from percept.files import write_json, write_text

CONTEXT = 32  # tokens; the longest caption has 24 words, and a beginning and an end are added
PAD, UNKNOWN, BEGIN, MASK, END = "[PAD]", "[UNK]", "[CLS]", "[MASK]", "[SEP]"
FILES = ("vocab.txt", "tokenizer_config.json")


def words(text: str) -> list[str]:
    """Words and punctuation marks of a text, in lower case."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def vocabulary(captions: Iterable[str]) -> list[str]:
    """All tokens by number: the special ones, then words in alphabetical order, and the end token last."""
    found = sorted({word for caption in captions for word in words(caption)})
    return [PAD, UNKNOWN, BEGIN, MASK, *found, END]


def write(tokens: Sequence[str], folder: str | Path, context: int = CONTEXT) -> None:
    """Write the files that `transformers.AutoTokenizer` reads."""
    folder = Path(folder)
    write_text("\n".join(tokens) + "\n", folder / "vocab.txt")
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": context,
        "pad_token": PAD,
        "unk_token": UNKNOWN,
        "cls_token": BEGIN,
        "bos_token": BEGIN,
        "mask_token": MASK,
        "sep_token": END,
        "eos_token": END,
    }
    write_json(settings, folder / "tokenizer_config.json")


def read(folder: str | Path) -> Any:  # noqa: ANN401 (a transformers tokenizer)
    """The tokenizer of a folder that `write` filled, or of any network's own."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)


def encode(tokenizer: Any, texts: Sequence[str], context: int = CONTEXT) -> NDArray[np.int64]:  # noqa: ANN401
    """Token numbers, (text, context), padded with [PAD]."""
    found = tokenizer(list(texts), padding="max_length", truncation=True, max_length=context)
    return np.asarray(found["input_ids"], dtype=np.int64)
