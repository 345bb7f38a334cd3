"""The lecture's translation: each target word attends to the source words that it translates [C8].

One cross-attention layer and two tables of word vectors, trained for seconds on a dozen sentences. A target word's
query chooses source words; from their values alone that word must be predicted. So attention learns which words are
translations of each other, as alignment models of machine translation do. "estoy llegando tarde" is not among the
sentences.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.attention import Attention, Site, attend, attention_map

SENTENCES = (
    ("estoy comiendo pan", "I am eating bread"),
    ("estoy comiendo tarde", "I am eating late"),
    ("estoy llegando hoy", "I am running today"),
    ("estoy leyendo hoy", "I am reading today"),
    ("estamos llegando tarde", "we are running late"),
    ("estamos leyendo tarde", "we are reading late"),
    ("estamos comiendo pan", "we are eating bread"),
    ("estamos llegando hoy", "we are running today"),
    ("leyendo tarde", "reading late"),
    ("comiendo hoy", "eating today"),
    ("llegando hoy", "running today"),
    ("estamos leyendo hoy", "we are reading today"),
)
SOURCE, TARGET = "estoy llegando tarde", "I am running late"
WIDTH, STEPS, RATE = 32, 150, 0.01


class Translation(nn.Module):
    """Cross-attention of target words over source words, and a prediction of each target word from what it sees."""

    def __init__(self):
        super().__init__()
        ours, theirs = (sorted({word for pair in SENTENCES for word in pair[side].split()}) for side in (0, 1))
        self.ours, self.theirs = ({word: i for i, word in enumerate(words)} for words in (ours, theirs))
        self.source, self.target = nn.Embedding(len(ours), WIDTH), nn.Embedding(len(theirs), WIDTH)
        self.attention = Attention(WIDTH, WIDTH, heads=1)
        self.predict = nn.Linear(WIDTH, len(theirs))

    def forward(self, source: str, target: str, edit: Callable | None = None) -> Float[Tensor, "n words"]:
        """Logits of each target word."""
        y, x = self.target(self.ids(target)), self.source(torch.tensor([self.ours[word] for word in source.split()]))
        return self.predict(self.attention(y[None], x[None], Site("cross", "mid", 0, len(y), 1), edit)[0])

    def ids(self, target: str) -> Tensor:
        return torch.tensor([self.theirs[word] for word in target.split()])

    @torch.no_grad()
    def A(self, source: str, target: str) -> Float[Tensor, "n m"]:
        """The attention of n target words to m source words."""
        maps = []

        def look(site: Site, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
            maps.append(attention_map(Q, K))
            return attend(Q, K, V)

        self(source, target, look)
        return maps[0][0, 0]


@cache
def trained_translation() -> Translation:
    """The model, trained on the sentences; it takes seconds, once."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Translation()
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    for _ in range(STEPS):
        loss = sum(F.cross_entropy(model(*pair), model.ids(pair[1])) for pair in SENTENCES)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model
