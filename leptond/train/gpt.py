"""A small decoder-only transformer in plain torch: the model of the examples and of the tests. It names what
a parallel plan needs to know about a model: which layers split how (`TP_PLAN`), and its parts in the order
in which a pipeline runs them (:meth:`Gpt.parts`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class GptConfig:
    """Sizes. `width` is a multiple of `heads`, and both of them of the tensor-parallel degree."""

    vocabulary: int = 128
    context: int = 64
    width: int = 64
    heads: int = 4
    layers: int = 2
    dropout: float = 0.0


TP_PLAN = {
    "*.attention.query": "colwise",
    "*.attention.key": "colwise",
    "*.attention.value": "colwise",
    "*.attention.out": "rowwise",
    "*.up": "colwise",
    "*.down": "rowwise",
}
"""The split of its layers over the ranks of a tensor-parallel group (the Megatron layout, arXiv
1909.08053)."""


class Attention(nn.Module):
    """Causal self-attention over however many heads this rank holds."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.head_size = config.width // config.heads
        self.query = nn.Linear(config.width, config.width, bias=False)
        self.key = nn.Linear(config.width, config.width, bias=False)
        self.value = nn.Linear(config.width, config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (batch, time, width)
        batch, time, _ = x.shape
        q, k, v = (
            part(x).view(batch, time, -1, self.head_size).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        mixed: Tensor = self.out(y.transpose(1, 2).reshape(batch, time, -1))
        return mixed


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a norm and around a shortcut."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.attention = Attention(config)
        self.norm2 = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, 4 * config.width)
        self.down = nn.Linear(4 * config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))


class Embedding(nn.Module):
    """Characters and places to vectors."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocabulary, config.width)
        self.place = nn.Embedding(config.context, config.width)

    def forward(self, tokens: Tensor) -> Tensor:  # (batch, time) -> (batch, time, width)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        vectors: Tensor = self.token(tokens) + self.place(places)
        return vectors


class Head(nn.Module):
    """Vectors to scores for the next character."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.scores = nn.Linear(config.width, config.vocabulary, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.scores(self.norm(x))
        return scores


class Gpt(nn.Module):
    """Characters in, scores for the next character out."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(
            [Embedding(config), *(Block(config) for _ in range(config.layers)), Head(config)]
        )

    def forward(self, tokens: Tensor) -> Tensor:  # (batch, time) -> (batch, time, vocabulary)
        x = tokens
        for layer in self.layers:
            x = layer(x)
        return x

    def parts(self) -> nn.ModuleList:
        """The parts between which a pipeline cuts."""
        return self.layers


def next_token_loss(scores: Tensor, following: Tensor) -> Tensor:
    """Mean cross-entropy, nats a token."""
    return F.cross_entropy(scores.flatten(0, 1), following.flatten())
