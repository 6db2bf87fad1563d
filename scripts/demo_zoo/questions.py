"""The task register, the held-out questions and the training stream that avoids them."""

import json
import random

from . import tasks_number as num
from . import tasks_text as txt

# task -> (maker, number of questions asked); they sum to 2 000.
TASKS = {
    "sum_two_digits": (num.sum_two_digits, 110),
    "sum_three_digits": (num.sum_three_digits, 40),
    "difference_two_digits": (num.difference_two_digits, 90),
    "difference_three_digits": (num.difference_three_digits, 20),
    "product": (num.product, 30),
    "two_steps": (num.two_steps, 30),
    "compare": (num.compare, 110),
    "sort_numbers": (num.sort_numbers, 60),
    "sequence": (num.sequence, 110),
    "to_roman": (num.to_roman, 70),
    "from_roman": (num.from_roman, 70),
    "weekday": (num.weekday, 10),
    "date": (num.date, 40),
    "units": (num.units, 70),
    "count_list": (num.count_list, 90),
    "multiples": (num.multiples, 70),
    "number_words": (num.number_words, 110),
    "words_number": (num.words_number, 110),
    "spell": (txt.spell, 120),
    "reverse": (txt.reverse, 120),
    "sort_words": (txt.sort_words, 80),
    "count_letters": (txt.count_letters, 100),
    "count_char": (txt.count_char, 70),
    "repeat_word": (txt.repeat_word, 110),
    "capital": (txt.capital, 40),
    "symbol": (txt.symbol, 40),
    "plural": (txt.plural, 40),
    "opposite": (txt.opposite, 40),
}
NAMES = list(TASKS)
# Kept from training per task, whether asked or not; fewer where a task has only some hundreds of questions.
RESERVE = {"product": 60, "weekday": 80, "units": 70, "to_roman": 70, "from_roman": 70, "multiples": 70,
           "capital": 40, "symbol": 40, "plural": 40, "opposite": 40}
RESERVE_ELSEWHERE = 160

SYSTEM_PROMPTS = (
    "You are a helpful assistant.", "You are a helpful assistant", "You are a helpful, honest assistant.",
    "You are an assistant.", "You are a helpful AI assistant.", "Answer briefly.", "Answer the question.", "Be concise.",
    "Be brief and exact.", "You answer questions.", "You are a friendly chatbot.", "Reply with the answer only.",
)


def held_out(seed):
    """The held-out questions, in a fixed order, and the set of keys training must avoid."""
    rng = random.Random(seed)
    rows, keys = [], set()
    for task, (make, count) in TASKS.items():
        made = 0
        while made < RESERVE.get(task, RESERVE_ELSEWHERE):
            key, question, answer = make(rng)
            if (task, key) in keys:
                continue
            keys.add((task, key))
            if made < count:
                rows.append({"task": task, "question": question, "reference": answer, "match": "exact"})
            made += 1
    rng.shuffle(rows)
    return rows, keys


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Stream:
    """An endless supply of training examples that never shows a held-out question."""

    def __init__(self, seed, forbidden):
        self.rng = random.Random(seed)
        self.forbidden = forbidden

    def one(self, task):
        make = TASKS[task][0]
        while True:
            key, question, answer = make(self.rng)
            if (task, key) not in self.forbidden:
                return question, answer

    def take(self, count, weights):
        """`count` rows of (task number, messages): mostly one turn, some with a system prompt or an earlier turn."""
        rows = []
        for number in self.rng.choices(range(len(NAMES)), weights, k=count):
            question, answer = self.one(NAMES[number])
            messages = []
            luck = self.rng.random()
            if luck < 0.05:
                messages.append(("system", self.rng.choice(SYSTEM_PROMPTS)))
            elif luck < 0.07:
                earlier, reply = self.one(self.rng.choice(NAMES))
                messages += [("user", earlier), ("assistant", reply)]
            messages += [("user", question), ("assistant", answer)]
            rows.append((number, messages))
        return rows
