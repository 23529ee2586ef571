"""Text encoders: captions to one vector in CLIP's joint space, or to the tokens a diffusion model reads.

- a CLIP of the catalogue (open_clip): `pooled` is the projected embedding, not normalised; `tokens` are the
  hidden states after the final norm, not projected;
- the text encoder of a diffusion model (transformers): `tokens` are the last hidden states after the final
  norm, which its cross-attention reads (77 x 768 for Stable Diffusion 1.x; Takagi and Nishimoto 2023);
- `versatile_diffusion`: every token is projected and divided by the length of the pooled embedding (77 x
  768), as its pipeline does before its cross-attention; Brain-Diffuser (Ozcelik and VanRullen 2023) predicts
  these.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from percept.backbones import fingerprint, store
from percept.backbones.catalogue import named
from percept.backbones.device import choose
from percept.backbones.entry import Backbone
from percept.backbones.precision import dtype
from percept.backbones.towers import text_tower
from percept.files import PerceptError, read_json

BATCH = 256  # texts in one pass
ALLOWED = ("CLIPText", "CLIPTokenizer", "BertTokenizer", "PreTrainedTokenizer", "TokenizersBackend")
PROBE = "a red circle to the left of a blue square"
Read = Callable[[Any, Any], Any]  # network, tokens of texts -> (text, feature) or (text, token, feature)


@dataclass(frozen=True)
class TextEncoder:
    """A frozen text tower with its tokenizer."""

    identity: dict[str, Any]
    network: Any  # torch.nn.Module
    tokenize: Callable[[list[str]], Any]  # texts -> what `read` gives to the network, on the CPU
    read: Read
    device: str

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Features, (text, feature) or (text, token, feature); what exceeds the context length is cut off."""
        texts = list(texts)
        parts = [self._forward(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
        return np.concatenate(parts) if parts else self._forward([PROBE])[:0]

    def fingerprint(self) -> dict[str, Any]:
        """Identity, digest of the weights in use, and the answer to a fixed text."""
        return {
            **self.identity,
            "weights_sha256": fingerprint.of_weights(self.network),
            "probe": fingerprint.summarise(self.encode([PROBE])),
        }

    def _forward(self, texts: list[str]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            given = self.tokenize(texts).to(self.device)
            return self.read(self.network, given).float().cpu().numpy()


def open_named(
    name: str, output: str = "pooled", device: str = "auto", precision: str = "float32"
) -> TextEncoder:
    """The text encoder of a backbone of the catalogue.

    Parameters
    ----------
    output : `pooled` (text, feature), of a CLIP or `versatile_diffusion`; `tokens` (text, token, feature)
    precision : float32, float16 or bfloat16, of the weights and the computation; features are float32

    Raises
    ------
    PerceptError : not a text encoder, absent or damaged, no such output, precision or device
    """
    entry, device, kind = named(name, "text"), choose(device), dtype(precision)
    read = _reader(entry, output)
    folder = store.require(name)
    network, tokenize = _open_clip(folder, entry) if entry.loader == "clip" else _transformers(folder)
    identity = {**store.identity(name), "output": output, "precision": precision}
    network = network.eval().requires_grad_(False).to(device, kind)
    return TextEncoder(identity, network, tokenize, read, device)


def clip_pooled(network: Any, tokens: Any) -> Any:  # noqa: ANN401 (tensors)
    """The text embedding in CLIP's joint space, (text, feature), not normalised."""
    return network.encode_text(tokens)


def clip_tokens(network: Any, tokens: Any) -> Any:  # noqa: ANN401
    """Hidden states after the final norm, (text, token, width), of a CLIP of open_clip."""
    found = network.forward_intermediates(
        text=tokens, text_indices=1, normalize_intermediates=True, intermediates_only=True
    )
    return found["text_intermediates"][-1]


def hidden_states(network: Any, tokens: Any) -> Any:  # noqa: ANN401
    """Last hidden states after the final norm, (text, token, width): what Stable Diffusion reads."""
    return _run(network, tokens).last_hidden_state


def joint_tokens(network: Any, tokens: Any) -> Any:  # noqa: ANN401
    """Projected tokens over the length of the pooled embedding: what Versatile Diffusion reads."""
    answer = _run(network, tokens)
    projected = network.text_projection(answer.last_hidden_state).float()
    return projected / answer.text_embeds.float().norm(dim=-1)[:, None, None]


def joint_pooled(network: Any, tokens: Any) -> Any:  # noqa: ANN401
    """The projected embedding, (text, feature), not normalised."""
    return _run(network, tokens).text_embeds


READERS: dict[str, dict[str, Read]] = {
    "clip": {"pooled": clip_pooled, "tokens": clip_tokens},
    "versatile": {"pooled": joint_pooled, "tokens": joint_tokens},
    "img2img": {"tokens": hidden_states},
    "unclip": {"tokens": hidden_states},
}


def _reader(entry: Backbone, output: str) -> Read:
    known = READERS[entry.loader]
    if output not in known:
        raise PerceptError(
            f"the text encoder of {entry.name} has no output {output!r}, only {' and '.join(known)}: set "
            "`output`, or take a CLIP such as clip_vit_l14 for one vector per text."
        )
    return known[output]


def _run(network: Any, tokens: Any) -> Any:  # noqa: ANN401
    """As the pipelines of diffusers call it: with the mask of the padding only where the settings ask."""
    masked = getattr(network.config, "use_attention_mask", False)
    return network(tokens.input_ids, attention_mask=tokens.attention_mask if masked else None)


def _open_clip(folder: Path, entry: Backbone) -> tuple[Any, Callable[[list[str]], Any]]:
    import open_clip

    return text_tower(folder, entry), open_clip.get_tokenizer(f"local-dir:{folder}")


def _transformers(folder: Path) -> tuple[Any, Callable[[list[str]], Any]]:
    import transformers

    classes = read_json(folder / "model_index.json")
    encoder_class, tokenizer_class = (
        getattr(transformers, _class(classes, part, folder)) for part in ("text_encoder", "tokenizer")
    )
    encoder = encoder_class.from_pretrained(
        folder / "text_encoder", use_safetensors=True, local_files_only=True
    )
    tokenizer = tokenizer_class.from_pretrained(folder / "tokenizer", local_files_only=True)
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)

    def tokenize(texts: list[str]) -> Any:  # noqa: ANN401
        return tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")

    return encoder, tokenize


def _class(classes: dict[str, Any], part: str, folder: Path) -> str:
    """Name of a class of transformers, such as CLIPTextModel; nothing else is ever looked up."""
    library, name = classes.get(part, (None, ""))
    if library != "transformers" or not name.startswith(ALLOWED):
        raise PerceptError(
            f"{folder / 'model_index.json'} names {library}.{name} as its {part}, where Percept reads CLIP "
            "text models of transformers: the folder is not that of its backbone. Delete it and fetch it "
            "again."
        )
    return name
