"""The swaps of the course's homework, with the vocabulary of the real CLIP."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ldm.presets import PRESETS
from ldm.tokenizer import CLIPTokenizer, Tokens
from p2p.mappers import align, mapper
from p2p.words import columns


@pytest.fixture(scope="module")
def clip() -> CLIPTokenizer:
    """CLIP's tokenizer, from the list of merges that the package open_clip_torch carries; the package is not run."""
    path = Path(find_spec("open_clip").origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    # as Radford et al. count: 49,408 entries less 512 for bytes and 2 special tokens; the first line is a comment
    merges = [tuple(line.split()) for line in lines[1 : 49_408 - 512 - 2 + 1]]
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    characters = [*map(chr, printable), *(chr(256 + i) for i in range(256 - len(printable)))]
    entries = [*characters, *(c + "</w>" for c in characters), *map("".join, merges)]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer.from_vocabulary({entry: i for i, entry in enumerate(entries)}, merges, PRESETS["sd15"].text)


def test_the_vocabulary_is_the_real_one(clip):
    """Ids that everyone who has used Stable Diffusion has seen: a photo of a cat."""
    tokens = clip.encode("a photo of a cat")
    assert tokens.ids[:8] == (49406, 320, 1125, 539, 320, 2368, 49407, 49407)


def tokens_of(clip: CLIPTokenizer, prompt: str, word: str) -> tuple[Tokens, tuple[int, ...]]:
    tokens = clip.encode(prompt)
    return tokens, columns(tokens, word)


@pytest.mark.equation("P8")
@pytest.mark.parametrize(
    ("prompt", "word", "other", "kind"),
    [
        ("a {} eats a bun on the beach", "lion", "seal", "1-1"),
        ("a {} eats a bun on the beach", "lion", "hippopotamus", "1-N"),
        ("a {} fell on the floor", "matchstick", "ball", "N-1"),
        ("an {} large house", "unimaginably", "inconceivably", "N-M"),
        ("an {} large house", "unimaginably", "unrealistically", "N-N"),
    ],
)
def test_a_swap_of_the_homework(clip, prompt, word, other, kind):
    """The block of the swapped word by hand, and every other token on itself, behind the word too."""
    source, ours = tokens_of(clip, prompt.format(word), word)
    target, theirs = tokens_of(clip, prompt.format(other), other)
    m, k = len(ours), len(theirs)
    assert {"1-1": m == k == 1, "1-N": m == 1 < k, "N-1": m > 1 == k, "N-M": 1 < m != k > 1, "N-N": 1 < m == k}[kind]
    M = mapper(align(source, target, ((word, other),)), 77)
    block = M[list(ours)][:, list(theirs)]
    by_hand = torch.eye(m, dtype=torch.float64) if m == k else torch.full((m, k), 1 / k, dtype=torch.float64)
    assert_close(block, by_hand, rtol=0, atol=0)
    for i in range(source.count):
        if i < ours[0]:
            assert M[i, i] == 1
        elif i > ours[-1]:
            assert M[i, i + k - m] == 1
    assert_close(M.sum(dim=1), torch.ones(77, dtype=torch.float64), rtol=0, atol=1e-15)  # rounding of shares
    assert not M[: source.count, target.count :].any()
