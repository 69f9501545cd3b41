# SPDX-License-Identifier: Apache-2.0
"""Prompts of Eagle-2: the chat text around images and instruction, and its tokens.

    <|im_start|>system          You are a helpful assistant.                      <|im_end|>
    <|im_start|>user            VIEW VIEW ... instruction                         <|im_end|>
    <|im_start|>assistant

with a line break after each of them, where VIEW is `<img>`, 64 times `<IMG_CONTEXT>`, `</img>` and a line break;
several views are numbered, `<image k>` in front of each.

"assistant" is an added token in this vocabulary, also inside the system sentence.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from tokenizers import Tokenizer
from torch import Tensor

from wam.core.errors import BundleError, InputError
from wam.policies.dust.config import EagleConfig

IMAGE_CONTEXT = "<IMG_CONTEXT>"
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", IMAGE_CONTEXT)
ADDED = (
    *SPECIALS,
    *("<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>", "<interval>", "</interval>", "assistant"),
)
SYSTEM_MESSAGE = "You are a helpful assistant."
TOKENIZER_FILE = "tokenizer.json"
DEFAULT_MAX_TOKENS = 512

_SPLIT = re.compile("(" + "|".join(re.escape(token) for token in ADDED) + ")")
_PIECE = re.compile(r"\s?\w+|\s?[^\w\s]+|\s")


def prompt_text(instruction: str, *, images: int, image_tokens: int) -> str:
    """Return the whole text of a prompt.

    Args:
        instruction: task text.
        images: number of camera views.
        image_tokens: tokens of one view.

    Raises:
        InputError: the instruction holds a control token of the vocabulary.
    """
    if found := [token for token in SPECIALS if token in instruction]:
        raise InputError(
            "instruction", value=instruction, allowed=f"text without {found}", where="the instruction"
        )
    views = "".join(
        (f"<image {i + 1}>" if images > 1 else "") + "<img>" + IMAGE_CONTEXT * image_tokens + "</img>\n"
        for i in range(images)
    )
    return (
        f"<|im_start|>system\n{SYSTEM_MESSAGE}<|im_end|>\n"
        f"<|im_start|>user\n{views}{instruction}<|im_end|>\n<|im_start|>assistant\n"
    )


def split_added(text: str) -> list[tuple[str, bool]]:
    """Split a text at its added tokens; each piece is marked as added token or text."""
    return [(piece, piece in ADDED) for piece in _SPLIT.split(text) if piece]


class PromptTokenizer(Protocol):
    """Turns a prompt into token ids. Called from the planner's worker thread."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text of `prompt_text`."""
        ...


class BpeTokenizer:
    """The vocabulary that the backbone was trained with, from `tokenizer.json`; nothing remote is run.

    Args:
        directory: that holds the file.
        config: of the backbone; None does not compare with it.

    Raises:
        BundleError: the file is missing, damaged, or of another vocabulary than the backbone's.
    """

    def __init__(self, directory: Path, config: EagleConfig | None = None) -> None:
        path = directory / TOKENIZER_FILE
        if not path.is_file():
            raise BundleError(
                f"{path} is missing", where="text.directory in policy.yaml; convert the checkpoint again"
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise BundleError(f"{path} is damaged: {error}") from error
        image = self._tokenizer.token_to_id(IMAGE_CONTEXT)
        size = self._tokenizer.get_vocab_size()
        if config is not None and (image != config.image_token or size > config.vocabulary):
            raise BundleError(
                f"{path} has {size} tokens with {IMAGE_CONTEXT} at {image}",
                allowed=f"at most {config.vocabulary} tokens with {IMAGE_CONTEXT} at {config.image_token}",
                where="the tokenizer of the bundle",
            )

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


class HashTokenizer:
    """One pseudo-random id per word, for backbones with random weights.

    Args:
        config: of the backbone; its image token keeps its id.
    """

    def __init__(self, config: EagleConfig) -> None:
        self._image_token = config.image_token
        self._size = min(config.image_token, config.vocabulary)

    def encode(self, text: str) -> list[int]:
        """Return ids that depend on each piece and nothing else."""
        ids = []
        for piece, added in split_added(text):
            if piece == IMAGE_CONTEXT:
                ids.append(self._image_token)
            elif added:
                ids.append(self._id(piece))
            else:
                ids += [self._id(word) for word in _PIECE.findall(piece)]
        return ids

    def _id(self, piece: str) -> int:
        return int.from_bytes(hashlib.sha256(piece.encode("utf-8")).digest()[:8], "little") % self._size


def tokenizer_from_vocabulary(source: Path, directory: Path) -> None:
    """Write `tokenizer.json` from the files of a released backbone: vocab.json, merges.txt, added tokens.

    Raises:
        BundleError: a file is missing.
    """
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        if not (source / name).is_file():
            raise BundleError(f"{source / name} is missing", where="the directory of the Eagle-2 vocabulary")
    from transformers import GPT2Tokenizer

    tokenizer = GPT2Tokenizer.from_pretrained(str(source), local_files_only=True)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.backend_tokenizer.save(str(directory / TOKENIZER_FILE))


def prompt_tokenizer(options: Mapping[str, Any], *, directory: Path, config: EagleConfig) -> PromptTokenizer:
    """Build the tokenizer that the `text` section of policy.yaml names.

    Args:
        options: {"kind": "hash"} or {"kind": "bpe", "directory": PATH}; "max_tokens" is read elsewhere.
        directory: of the bundle; relative paths start there.
        config: of the backbone.

    Raises:
        BundleError: the kind is unknown or a file is missing.
    """
    kind = options.get("kind")
    if kind == "hash":
        return HashTokenizer(config)
    if kind == "bpe":
        return BpeTokenizer(directory / str(options.get("directory", "tokenizer")), config)
    raise BundleError("policy.yaml: text.kind", value=kind, allowed="hash or bpe")


class Prompter:
    """Instruction -> token ids, with a limit on their number; caches the last few.

    Args:
        tokenizer: of the backbone.
        template: text of the prompt; "{task}" is replaced by the instruction.
        images: camera views.
        image_tokens: tokens of one view.
        max_tokens: longest prompt.
    """

    KEPT = 8

    def __init__(
        self, tokenizer: PromptTokenizer, *, template: str, images: int, image_tokens: int, max_tokens: int
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._images = images
        self._image_tokens = image_tokens
        self._max_tokens = max_tokens
        self._ids: dict[str, Tensor] = {}

    def __call__(self, instruction: str) -> Tensor:
        """Return the ids of a prompt, int64 [1, S].

        Raises:
            InputError: the prompt has more tokens than the policy allows, or holds a control token.
        """
        if instruction not in self._ids:
            text = prompt_text(
                self._template.replace("{task}", instruction),
                images=self._images,
                image_tokens=self._image_tokens,
            )
            ids = self._tokenizer.encode(text)
            if len(ids) > self._max_tokens:
                raise InputError(
                    f"the instruction gives a prompt of {len(ids)} tokens: {instruction!r}",
                    allowed=f"at most {self._max_tokens} tokens, {self._images * self._image_tokens} of them images",
                    where="the instruction, or text.max_tokens in policy.yaml",
                )
            while len(self._ids) >= self.KEPT:
                self._ids.pop(next(iter(self._ids)))
            self._ids[instruction] = torch.tensor([ids], dtype=torch.int64)
        return self._ids[instruction]


def pad_left(prompts: Sequence[Tensor], *, pad: int) -> tuple[Tensor, Tensor]:
    """Join prompts of several lengths as GR00T-N1 does.

    Args:
        prompts: ids [1, S_i] each.
        pad: id of padding.

    Returns:
        Ids [B, S] and the mask of real tokens, bool [B, S].
    """
    longest = max(p.shape[1] for p in prompts)
    ids = torch.full((len(prompts), longest), pad, dtype=torch.int64)
    mask = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for i, prompt in enumerate(prompts):
        ids[i, longest - prompt.shape[1] :] = prompt[0]
        mask[i, longest - prompt.shape[1] :] = True
    return ids, mask
