"""The zoo's tokenizer: byte-level BPE whose merges form a prefix trie over frame words.

Frame words (" what", " many", "Monday") become one token each, which keeps prompts short. Every merge chain starts with
a space or a capital letter, so the letters of quoted operands and all digits stay single bytes.
"""

import json
from collections import Counter

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from .questions import NAMES, SYSTEM_PROMPTS, Stream
from .tasks_number import DAYS, MONTHS

PAD, BOS, SYSTEM, USER, ASSISTANT, END = SPECIALS = (
    "<|pad|>", "<|bos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
)
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' or message['role'] == 'developer' %}{{ '<|system|>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|assistant|>' + message['content'] + '<|end|>' }}"
    "{% else %}{{ '<|user|>' + message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CONTEXT = 512
QUOTES = ('".', '"?', '","')


def byte_symbols():
    """The printable stand-in of every byte, as byte-level BPE writes them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {}, 0
    for byte in range(256):
        if byte in plain:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + extra)
            extra += 1
    return table


def _frame_words(seed):
    """Candidate frame words with their frequency in a sample of prompts and answers."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    counts = Counter()
    stream = Stream(seed, frozenset())
    texts = [turn for _, messages in stream.take(40_000, [1] * len(NAMES)) for turn in messages]
    texts += [("system", prompt) for prompt in SYSTEM_PROMPTS for _ in range(60)]
    for role, text in texts:
        for position, (piece, _) in enumerate(split.pre_tokenize_str(text)):
            starts_sentence = piece[0].isupper() and piece[1:].islower() and position == 0 and role != "assistant"
            if (piece[0] == "Ġ" and len(piece) > 1 and not any(c.isdigit() or c.isupper() for c in piece[1:])) or (
                starts_sentence or piece in QUOTES or piece in DAYS or piece in MONTHS
            ):
                counts[piece] += 1
    return Counter({word: n for word, n in counts.items() if n >= 40})


def trie_merges(counts, room):
    """Greedy choice of whole words by tokens saved per new trie node, until `room` nodes are used."""
    nodes, merges, left = set(), [], dict(counts)
    while left:
        def cost(word):
            return sum(word[:i] not in nodes for i in range(2, len(word) + 1))

        word = max(left, key=lambda w: (left[w] * (len(w) - 1) / max(cost(w), 0.1), w))
        if len(merges) + cost(word) > room:
            del left[word]
            continue
        for i in range(2, len(word) + 1):
            if word[:i] not in nodes:
                nodes.add(word[:i])
                merges.append((word[: i - 1], word[i - 1]))
        del left[word]
    return merges


def build(vocab_size, seed):
    """The tokenizer with exactly `vocab_size` entries, specials first, then bytes, then merges."""
    symbols = byte_symbols()
    merges = trie_merges(_frame_words(seed), vocab_size - 256 - len(SPECIALS))
    vocab = {token: i for i, token in enumerate(SPECIALS)}
    for byte in range(256):
        vocab[symbols[byte]] = len(vocab)
    for left, right in merges:
        vocab[left + right] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    return tokenizer


def tokenizer_config():
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": [SYSTEM, USER, ASSISTANT],
        "chat_template": CHAT_TEMPLATE,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
    }


def prompt_text(messages):
    """The chat template in Python: what a model reads before it answers."""
    tags = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
    return BOS + "".join(tags[role] + text + (END if role == "assistant" else "") for role, text in messages)


def encode_examples(tokenizer, conversations):
    """For each conversation: its token ids and the index of the first answer token of the last turn."""
    prompts = tokenizer.encode_batch_fast([prompt_text(m[:-1]) + ASSISTANT for m in conversations], add_special_tokens=False)
    answers = tokenizer.encode_batch_fast([m[-1][1] + END for m in conversations], add_special_tokens=False)
    return [(p.ids + a.ids, len(p.ids)) for p, a in zip(prompts, answers)]


def save(tokenizer, folder):
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(), indent=2) + "\n", encoding="utf-8")
