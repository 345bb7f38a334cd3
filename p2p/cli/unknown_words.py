"""Words of a prompt that the model was not trained on."""

import difflib
import logging
from collections.abc import Sequence

from ldm.pipeline import LatentDiffusion
from ldm.tokenizer import Tokens
from p2p.words import words

log = logging.getLogger(__name__)

NEAR = 0.75  # difflib's ratio from which a known word is suggested: "cats" and "cat" have 0.86


def unknown_words(model: LatentDiffusion, prompts: Sequence[Tokens]) -> list[str]:
    """The words that are not in the model's vocabulary, in lower case, each once; none if it has no vocabulary."""
    if model.vocabulary is None:
        return []
    found = (word.text.lower() for tokens in prompts for word in words(tokens))
    return [word for word in dict.fromkeys(found) if word not in model.vocabulary.words]


def warn_of_unknown_words(model: LatentDiffusion, prompts: Sequence[Tokens]) -> None:
    """Log one warning with the unknown words of the prompts, if any."""
    if unknown := unknown_words(model, prompts):
        known = sorted(word for word in model.vocabulary.words if len(word) > 2)
        near = {word: difflib.get_close_matches(word, known, n=1, cutoff=NEAR) for word in unknown}
        named = (repr(word) + (f" (did you mean {near[word][0]!r}?)" if near[word] else "") for word in unknown)
        log.warning(
            "%s was not trained on %s: the image may show anything there; `p2p vocabulary` lists the words it knows",
            model.config.name,
            ", ".join(named),
        )


def tokenised(model: LatentDiffusion, prompts: Sequence[str]) -> list[Tokens]:
    """The tokens of the prompts; a warning names their unknown words.

    Raises:
        ValueError: a prompt is longer than the model's context, or the model has no prompts.
    """
    tokens = [model.tokenizer.encode(prompt) for prompt in prompts]
    warn_of_unknown_words(model, tokens)
    return tokens
