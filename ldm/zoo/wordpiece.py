"""BERT's tokenizer: words in the longest pieces that a fixed vocabulary has (WordPiece, Devlin et al. 2019).

The text-to-image model of the latent diffusion paper reads its prompts with it. Lower case and without accents; a
Chinese character is a word, and so is a punctuation mark; control characters are left out. A word begins with the
longest piece that the vocabulary has, goes on with the longest `##` piece, and so on; one that cannot be spelled like
that is a single `[UNK]`.
"""

from pathlib import Path

from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

from ldm.config import BertConfig
from ldm.tokenizer import PromptTokenizer, read_text

UNKNOWN, MASK = "[UNK]", "[MASK]"  # special tokens that every vocabulary of BERT has, besides the config's
LONGEST = 100  # characters of a word; a longer one is unknown


class BertTokenizer(PromptTokenizer):
    """Lower-cased WordPiece."""

    @classmethod
    def from_vocabulary_file(cls, path: Path, config: BertConfig):
        """From the public `vocab.txt`, an entry a line; the first is 0.

        Raises:
            ValueError: the file cannot be read, or its entries are not as many as the config's, not all different, or
                without the special tokens.
        """
        entries = read_text(path).removesuffix("\n").split("\n")
        if len(entries) != config.vocabulary:
            raise ValueError(f"{path} has {len(entries)} entries, the config says {config.vocabulary}")
        vocab = {entry: i for i, entry in enumerate(entries)}
        if len(vocab) != len(entries):
            twice = next(entry for i, entry in enumerate(entries) if vocab[entry] != i)
            raise ValueError(f"{path} has the entry {twice[:50]!r} more than once")
        special = [config.bos, config.eos, config.pad, UNKNOWN, MASK]
        missing = [token for token in special if token not in vocab]
        if missing:
            raise ValueError(f"{path} lacks the special tokens {', '.join(missing)}")
        backend = Tokenizer(
            WordPiece(vocab, unk_token=UNKNOWN, max_input_chars_per_word=LONGEST, continuing_subword_prefix="##")
        )
        backend.normalizer = normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True
        )
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        ends = [(token, vocab[token]) for token in (config.eos, config.bos)]
        backend.post_processor = processors.BertProcessing(*ends)
        backend.add_special_tokens(special)  # typed in a prompt, too, each stands for itself
        return cls(backend, config)
