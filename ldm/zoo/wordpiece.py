"""BERT's tokenizer: splits words into the longest pieces of a fixed vocabulary (WordPiece, Devlin et al. 2019).

Used by the text-to-image model of the latent diffusion paper. Text is lower-cased and stripped of accents; each Chinese
character and each punctuation mark is a word; control characters are dropped. A word is matched greedily: the longest
piece in the vocabulary, then the longest `##` piece, and so on; a word that cannot be split like that is one `[UNK]`.
"""

from pathlib import Path

from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

from ldm.config import BertConfig
from ldm.tokenizer import PromptTokenizer, read_text

UNKNOWN, MASK = "[UNK]", "[MASK]"  # special tokens of every BERT vocabulary, besides the config's
LONGEST = 100  # characters of a word; a longer one is unknown


class BertTokenizer(PromptTokenizer):
    """Lower-cased WordPiece."""

    @classmethod
    def from_vocabulary_file(cls, path: Path, config: BertConfig):
        """Load the public `vocab.txt`, one entry per line; the first has id 0.

        Raises:
            ValueError: the file cannot be read, or its entries differ in number from the config's, repeat, or lack the
                special tokens.
        """
        entries = read_text(path).removesuffix("\n").split("\n")
        if len(entries) != config.vocabulary:
            raise ValueError(f"{path} has {len(entries)} entries, the config has {config.vocabulary}")
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
        backend.add_special_tokens(special)  # each also stands for itself when typed in a prompt
        return cls(backend, config)
