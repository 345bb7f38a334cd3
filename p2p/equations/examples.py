"""Prompt-to-Prompt in numbers small enough to check by hand; `p2p equations ID` shows them.

Prompts here have one token per word, unless a bar splits it, and no padding. The attention is that of one or a few
positions. T is 1000.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ldm.attention import Site
from ldm.states import Noise
from ldm.tokenizer import Tokens
from p2p.alpha import Alpha, Step, Time, Window
from p2p.edits import Edit, Matrices, Preserve, Refine, Reweight, Swap, used
from p2p.experiments.sweeps import SLIDING, TAUS
from p2p.inject import Injection, Layers, explicit, folded
from p2p.mappers import Merge, align, copies, mapper
from p2p.masks import composite

Example = dict[str, float | int | list | Tensor]

T = 1000
SITE = Site("cross", "mid", 0, 1, 1)
# the lecture's attention of five positions to three words: 1 to 5, 6 to 10, 11 to 15, by columns
ORANGE, TABBY = "orange cat sitting", "big tabby cat sitting"
PRINTED = torch.arange(1.0, 16.0, dtype=torch.float64).reshape(3, 5).mT


def written(prompt: str) -> Tokens:
    """Tokenize a prompt; `ele|phant` is one word of two tokens."""
    text, pieces, spans = prompt.replace("|", ""), [], []
    for word in prompt.split():
        for piece in word.split("|"):
            start = spans[-1][1] if spans else 0
            start = text.index(piece, start)
            pieces.append(piece)
            spans.append((start, start + len(piece)))
    spans = ((0, 0), *spans, (0, 0))
    return Tokens(text, tuple(range(len(spans))), ("BOS", *pieces, "EOS"), spans, len(spans))


def matrix(source: str, target: str, pair: tuple[str, str], merge: Merge = "sum") -> Tensor:
    """The mapper between the prompts' words, without BOS and EOS."""
    ours, theirs = written(source), written(target)
    length = max(ours.count, theirs.count)
    return mapper(align(ours, theirs, (pair,)), length, merge)[1 : ours.count - 1, 1 : theirs.count - 1]


def pair_at(edit: Edit, t: int, source: str, target: str) -> Matrices:
    """P_t and Q_t between two prompts with equally many tokens."""
    return edit.compile(written(source), written(target), T)(t)


def attention(*row: float) -> Tensor:
    return torch.tensor([row], dtype=torch.float64)


def p1() -> Example:
    first, second = Noise([7, 7], (1, 1, 2))()
    return {"z_T of the source, two numbers": first.flatten(), "z*_T of the target, the same seed": second.flatten()}


def p2() -> Example:
    row = lambda *values: torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)
    mask, z_star, z = torch.tensor([[False, True, True]]), row(1.0, 2.0, 3.0), row(-0.1, -0.2, -0.3)
    return {
        "mask, of three positions": mask.flatten().int(),
        "z* of the target": z_star.flatten(),
        "z of the source": z.flatten(),
        "z* goes on as": composite(mask, z_star, z).flatten(),
    }


def p3() -> Example:
    """One head, one position, two words; the source attends to the first, the target to the second."""
    Q = torch.tensor([[3.0, 0.0], [0.0, 3.0]]).double().reshape(2, 1, 1, 2)
    K, V = torch.eye(2, dtype=torch.float64).expand(2, 1, 2, 2), torch.tensor([[1.0, 2.0], [10.0, 20.0]]).double()
    V = V.reshape(2, 1, 2, 1)
    always = Injection([Matrices(torch.eye(2).double(), torch.zeros(2).double())], Layers(), [0.0], Layers())
    never = Injection([Matrices(torch.zeros(2, 2).double(), torch.ones(2).double())], Layers(), [0.0], Layers())
    return {
        "Y of the source, values 1 and 2": explicit(always)(SITE, Q, K, V)[0].item(),
        "Y* of the target with its own A*, values 10 and 20": explicit(never)(SITE, Q, K, V)[1].item(),
        "Y* with the source's A": explicit(always)(SITE, Q, K, V)[1].item(),
        "the same, without building A": folded(always)(SITE, Q, K, V)[1].item(),
    }


def p4() -> Example:
    prompt = written("a cat")
    share = lambda t, tau: Alpha(tau).compile(prompt, T)(t)[1].item()
    return {
        "tau = 300, share of A at t = 1000": share(1000, Step(300)),
        "at t = 300": share(300, Step(300)),
        "at t = 299": share(299, Step(300)),
        "tau = 0 at t = 1": share(1, 0.0),
        "tau = T + 1 at t = 1000": share(1000, "never"),
    }


def p5() -> Example:
    return {label: value for label, value in p3().items() if label.startswith("Y*")}


def p6() -> Example:
    M = matrix(ORANGE, "orange dog sitting", ("cat", "dog"))
    return {"cat becomes dog: M": M, "A of five positions": PRINTED, "A M": PRINTED @ M}


def p7() -> Example:
    there = matrix(ORANGE, TABBY, ("orange", "big tabby"))
    copied = matrix(ORANGE, TABBY, ("orange", "big tabby"), "copy")
    back = lambda merge: matrix(TABBY, ORANGE, ("big tabby", "orange"), merge)
    return {
        "orange copied to big and to tabby: M": copied,
        "its rows' sums": copied.sum(dim=1),
        "orange split between them: M": there,
        "A M of five positions": PRINTED @ there,
        "the way back, columns added: M": back("sum"),
        "... averaged (mean): M": back("mean"),
    }


def p8() -> Example:
    M = matrix("a cat sleeps", "an ele|phant sleeps", ("cat", "elephant"))
    return {"cat becomes ele|phant: M, of cat, sleeps": M[1:], "its rows' sums": M.sum(dim=1)[1:]}


def alpha_matrices() -> dict[str, Tensor]:
    """alpha_t, alpha_{t-1} and alpha_{t-2} as the slide draws them, n x m: the columns switch off word by word."""
    alpha = Alpha(Step(998), {"cat": Step(999), "sitting": Step(1000)}).compile(written(TABBY), T)
    return {name: alpha(t)[1:-1].expand(5, -1) for name, t in (("t", 1000), ("t-1", 999), ("t-2", 998))}


def p9() -> Example:
    edit = Swap("cat", "dog", Alpha(Step(300), {"dog": Step(700)}))
    A, A_own = attention(0.1, 0.2, 0.6, 0.1), attention(0.3, 0.1, 0.2, 0.4)
    at = lambda t: used(A, A_own, *pair_at(edit, t, "a cat", "a dog"))
    return {
        "A, of BOS a cat EOS": A,
        "A*, of BOS a dog EOS": A_own,
        "tau = 300, dog's own 700: A_used at t = 800": at(800),
        "at t = 500, dog has its own": at(500),
        "at t = 200": at(200),
        **{f"alpha_{name} over {TABBY}, of five positions": alpha for name, alpha in alpha_matrices().items()},
    }


def p10() -> Example:
    # yawns replaces sleeps, as a new word
    refined = pair_at(Refine(Alpha(0)), 500, "a cat sleeps", "a cat yawns")
    weighed = pair_at(Refine(Alpha(0)) + Reweight("cat", 2.0), 500, "a cat sleeps", "a cat yawns")
    A, A_own = attention(0.1, 0.1, 0.4, 0.3, 0.1), attention(0.2, 0.1, 0.1, 0.5, 0.1)
    source, target = written("a cat sleeps"), written("a cat")
    lost, moved = (mapper(alignment, 5) for alignment in (copies(source, target), align(source, target)))
    return {
        "A, of BOS a cat sleeps EOS": A,
        "A*, of BOS a cat yawns EOS": A_own,
        "refine: yawns has its own": used(A, A_own, *refined),
        "and cat weighs 2": used(A, A_own, *weighed),
        "its sum: rows are not renormalised": used(A, A_own, *weighed).sum().item(),
        "sleeps deleted, target BOS a cat EOS PAD: A^": A @ lost,
        "... with its attention moved to BOS, as the mapper of a swap does": A @ moved,
    }


def p11() -> Example:
    found = pair_at(Preserve("cat"), 500, "a cat sleeps", "a cat yawns")
    return {"preserve cat: diagonal of P, of BOS a cat yawns EOS": found.P.diagonal(), "diagonal of Q": found.Q}


TIMES = range(T, 0, -50)  # of 20 steps


def injecting(tau: Time | Window) -> list[int]:
    alpha = Alpha(tau).compile(written("a cat"), T)
    return [t for t in TIMES if alpha(t)[1] == 1]


def p12() -> Example:
    return {f"tau = {tau}: of 20 steps, so many inject": len(injecting(tau)) for tau in TAUS}


def p13() -> Example:
    return {
        f"the window {w.start}:{w.end} of T injects at t = {injecting(w)[0]} to": injecting(w)[-1] for w in SLIDING[::4]
    }


EXAMPLES: dict[str, Callable[[], Example]] = {
    example.__name__.upper(): example for example in (p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11, p12, p13)
}
