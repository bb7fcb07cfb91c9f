"""Train a WordPiece vocabulary on text: count words, choose an alphabet, merge. Takes texts, returns pieces in
the order of their numbers; the same texts in the same order always give the same pieces.

The merging is that of `tokenizers`' trainer (byte-pair merges by count, as Hugging Face trains BERT vocabularies). By
itself it numbers the letters in the order of a randomly seeded hash table and breaks ties by those numbers, so two runs
differ. Here the letters are counted first and passed in a fixed order, which breaks every tie the same way.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

SPECIAL_PIECES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
CONTINUATION = "##"
LONGEST_WORD = 100  # characters; BERT's WordPiece makes [UNK] of longer words, so they teach nothing

_COVERED = 0.9999  # share of the text's characters after which rarer ones become [UNK] unless a limit is given
_ESSENTIAL = 0.99  # share of the text's characters without which a vocabulary is refused as too small
_FOLD_AT = 200_000  # distinct raw chunks held before they are normalised
_FOLD_CHARACTERS = 1 << 25  # of these chunks
_NORMALISED_AT_ONCE = 1 << 17  # characters; a longer chunk is cut
_LONG = 4 * LONGEST_WORD  # characters between spaces that are parted at once, as in languages without spaces
_MOST_WORDS = 4_000_000  # distinct words held; beyond, the rarest are forgotten
MOST_PIECES = 10_000_000  # of a vocabulary; the trainer asks for memory for all of them before it begins
_REPEATS = 10_000  # times that one line for the trainer says one word


def learn_vocabulary(
    texts: Iterable[str],
    *,
    vocab_size: int,
    normalizer: normalizers.Normalizer,
    limit_alphabet: int | None,
    min_frequency: int,
    choose: Callable[[Counter[str]], normalizers.Normalizer | None] | None = None,
) -> list[str]:
    """Train a vocabulary: the special pieces, the alphabet, then merges by count.

    vocab_size: maximum number of pieces.
    normalizer: applied to the texts first.
    limit_alphabet: maximum number of characters to keep. None keeps the most frequent ones up to all but 1 in 10,000 of
        the text's characters, while their pieces fill at most half of the vocabulary (those that cover 99 % stay).
    min_frequency: minimum count of a pair of pieces that is merged.
    choose: called with the counts of the normalized chunks between spaces; may return a second normalizer.
    Raises ValueError if the texts hold no word, if special pieces and alphabet alone exceed `vocab_size`, and if that
    exceeds MOST_PIECES.
    """
    if limit_alphabet is not None and limit_alphabet < 1:
        raise ValueError(
            f"limit_alphabet={limit_alphabet}, expected at least 1 character, or None to choose by the text"
        )
    if vocab_size > MOST_PIECES:
        raise ValueError(f"vocab_size={vocab_size} is too large, expected at most {MOST_PIECES}: ask for fewer pieces.")
    words = _count_words(texts, normalizer, choose or (lambda spaced: None))
    if not words:
        raise ValueError("the texts hold no words, expected text to learn a vocabulary from: check the corpus")
    alphabet = _choose_alphabet(words, vocab_size=vocab_size, limit=limit_alphabet)
    letters = set(alphabet)
    known = {word: count for word, count in words.items() if letters.issuperset(word)}
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*SPECIAL_PIECES.values(), *_letter_pieces(alphabet, known)],
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
    )
    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL_PIECES["unk"]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator(_repeated(known), trainer)
    numbers = tokenizer.get_vocab()
    return sorted(numbers, key=numbers.__getitem__)


def _count_words(
    texts: Iterable[str],
    normalizer: normalizers.Normalizer,
    choose: Callable[[Counter[str]], normalizers.Normalizer | None],
) -> Counter[str]:
    """How often each word occurs, as the tokenizer will see words: normalised, apart from punctuation.

    Every step works on what is distinct so far, which is several times faster than normalising the text: chunks
    between spaces, then, normalised, between spaces again (Chinese characters get spaces), then between punctuation.
    """
    spaced: Counter[str] = Counter()
    chunks: Counter[str] = Counter()
    words: Counter[str] = Counter()
    characters = 0
    for text in texts:
        chunks.update(text.split())
        characters += len(text)
        if characters >= _FOLD_CHARACTERS:
            characters = sum(map(len, chunks))
        if len(chunks) >= _FOLD_AT or characters >= _FOLD_CHARACTERS:
            _fold(chunks, spaced, words, normalizer)
            characters = 0
    _fold(chunks, spaced, words, normalizer)
    again = choose(spaced)
    if again is not None:
        chunks, spaced, words = spaced + words, Counter(), Counter()
        _fold(chunks, spaced, words, again)
    _part(spaced, words)
    return words


def _fold(chunks: Counter[str], spaced: Counter[str], words: Counter[str], normalizer: normalizers.Normalizer) -> None:
    """Move the counts of raw chunks over to what they are when normalised, and bound how many are held."""
    long: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for start in range(0, len(chunk), _NORMALISED_AT_ONCE):
            for part in normalizer.normalize_str(chunk[start : start + _NORMALISED_AT_ONCE]).split():
                (spaced if len(part) <= _LONG else long)[part] += count
    chunks.clear()
    _part(long, words)
    _forget_rare(spaced)
    _forget_rare(words)


def _part(spaced: Counter[str], words: Counter[str]) -> None:
    """Count the words of what stands between spaces."""
    splitter = pre_tokenizers.BertPreTokenizer()
    for part, count in spaced.items():
        for word, _ in splitter.pre_tokenize_str(part):
            if len(word) <= LONGEST_WORD:
                words[word] += count


def _forget_rare(counts: Counter[str]) -> None:
    """Where too many are held, drop those seen once, and where that does not do those seen twice, and so on."""
    rare = 1
    while len(counts) > _MOST_WORDS:
        for part in [part for part, count in counts.items() if count <= rare]:
            del counts[part]
        rare += 1


def _choose_alphabet(words: Counter[str], *, vocab_size: int, limit: int | None) -> list[str]:
    """The characters to keep, most frequent first; see `learn_vocabulary`."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    continues = {character for word in words for character in word[1:]}
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    covered = list(accumulate(counts[character] for character in ranked))  # characters of the text
    pieces = list(accumulate(1 + (character in continues) for character in ranked))  # entries of the vocabulary
    essential = _first_reaching(covered, _ESSENTIAL * covered[-1])
    if limit is None:
        wanted = _first_reaching(covered, _COVERED * covered[-1])
        kept = max(essential, min(wanted, sum(2 * total <= vocab_size for total in pieces)))
    else:
        kept = essential = min(limit, len(ranked))
    least = len(SPECIAL_PIECES) + pieces[essential - 1]
    if vocab_size < least:
        raise ValueError(
            f"vocab_size={vocab_size} is too small, expected at least {least}: the special pieces and the "
            f"{essential} most frequent characters of the text, alone and inside words, are that many. "
            "Ask for more pieces, several thousand for real text."
        )
    return ranked[:kept]


def _first_reaching(totals: Sequence[int], goal: float) -> int:
    """How many entries it takes until the running total reaches the goal."""
    return next(place for place, total in enumerate(totals, start=1) if total >= goal)


def _letter_pieces(alphabet: Iterable[str], words: Iterable[str]) -> list[str]:
    """Every character as a word's beginning, and those seen inside a word as continuation; in code point order."""
    continues = {character for word in words for character in word[1:]}
    ordered = sorted(alphabet)
    return ordered + [CONTINUATION + character for character in ordered if character in continues]


def _repeated(words: dict[str, int]) -> Iterator[str]:
    """Each word as often as it was counted, in lines of bounded length, in alphabetic order."""
    for word in sorted(words):
        times, rest = divmod(words[word], _REPEATS)
        for _ in range(times):
            yield f"{word} " * _REPEATS
        yield f"{word} " * rest
