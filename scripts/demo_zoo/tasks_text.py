"""Question makers whose operands are words: each returns (key, question, answer)."""

from . import facts
from .words import any_word


def spell(rng):
    word = any_word(rng, 3, 9)
    text = rng.choice((
        'Spell the word "{}".', 'Spell "{}" with hyphens.', 'How do you spell "{}"?', 'Please spell "{}".',
        'Can you spell "{}" letter by letter?', 'Spell out "{}".', 'Write the letters of "{}" with hyphens between them.',
    )).format(word)
    return (word,), text, "-".join(word)


def reverse(rng):
    word = any_word(rng, 3, 8)
    text = rng.choice((
        'Reverse the word "{}".', 'Write "{}" backwards.', 'What is "{}" backwards?', 'Please reverse "{}".',
        'How does "{}" read backwards?', 'Turn "{}" around.', 'Reverse the letters of "{}".',
    )).format(word)
    return (word,), text, word[::-1]


def sort_words(rng):
    n = rng.choice((3, 3, 4))
    chosen = []
    while len(chosen) < n:
        word = any_word(rng, 3, 6)
        if word not in chosen:
            chosen.append(word)
    listing = ",".join(f'"{w}"' for w in chosen)
    text = rng.choice((
        "Sort these words alphabetically: {}", "Put in alphabetical order: {}", "Sort the words {}",
        "Arrange alphabetically: {}", "What is the alphabetical order of {}?", "Alphabetical order, please: {}",
    )).format(listing)
    ordered = sorted(chosen)
    return tuple(ordered), text, ",".join(ordered)


def count_letters(rng):
    word = any_word(rng, 3, 10)
    text = rng.choice((
        'How many letters are in "{}"?', 'How many letters does "{}" have?', 'Count the letters in "{}".',
        'How long is the word "{}"?', 'What is the length of the word "{}"?', 'Give the number of letters in "{}".',
    )).format(word)
    return (word,), text, str(len(word))


def count_char(rng):
    word = any_word(rng, 4, 9)
    letter = rng.choice(word) if rng.random() < 0.85 else rng.choice("aeioulnrst")
    text = rng.choice((
        'How many times does "{c}" appear in "{w}"?', 'How often is "{c}" in "{w}"?', 'Count the letter "{c}" in "{w}".',
        'How many "{c}" are there in "{w}"?', 'In "{w}", how many times is the letter "{c}" used?',
        'What is the count of "{c}" in "{w}"?',
    )).format(c=letter, w=word)
    return (letter, word), text, str(word.count(letter))


def repeat_word(rng):
    word, times = any_word(rng, 3, 7), rng.randint(2, 9)
    text = rng.choice((
        'Repeat the word "{w}" {n} times.', 'Say "{w}" {n} times.', 'Write "{w}" {n} times.',
        'Please repeat "{w}" {n} times.', 'Give me "{w}" {n} times over.', 'Print the word "{w}" {n} times.',
    )).format(w=word, n=times)
    return (word, times), text, ",".join([word] * times)


def _fact(table, wordings):
    def make(rng):
        name, answer = rng.choice(table)
        text = rng.choice(wordings).format(name)
        return (text,), text, answer

    return make


capital = _fact(facts.CAPITALS, (
    "What is the capital of {}?", "Name the capital of {}.", "Which city is the capital of {}?", "The capital of {}?",
    "What is the capital city of {}?", "Tell me the capital of {}.", "Give the capital of {}.",
))
symbol = _fact(facts.SYMBOLS, (
    'What is the chemical symbol of "{}"?', 'Chemical symbol for "{}"?', 'Give the chemical symbol of "{}".',
    'Which symbol does the element "{}" have?', 'Tell me the symbol of the element "{}".', 'What symbol stands for "{}"?',
))
plural = _fact(facts.PLURALS, (
    'What is the plural of "{}"?', 'Give the plural of "{}".', 'Plural of "{}"?', 'Write the plural form of "{}".',
    'What is the plural form of "{}"?', 'Tell me the plural of "{}".', 'One "{}", two what?',
))
opposite = _fact(facts.OPPOSITES, (
    'What is the opposite of "{}"?', 'Opposite of "{}"?', 'Give the opposite of "{}".', 'Name the opposite of "{}".',
    'Which word is the opposite of "{}"?', 'Tell me the opposite of "{}".', 'What is the contrary of "{}"?',
))
