"""Question makers whose operands are numbers and dates: each returns (key, question, answer)."""

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen").split()
TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()
ROMAN = ((100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))

SUM = ("What is {} + {}?", "Compute {} + {}.", "{} + {} = ?", "Add {} and {}.", "What do you get when you add {} and {}?",
       "How much is {} plus {}?", "What is the sum of {} and {}?", "Calculate {} plus {}.")
DIFFERENCE = ("What is {} - {}?", "Compute {} - {}.", "{} - {} = ?", "What is {} minus {}?", "How much is {} minus {}?",
              "Take {1} away from {0}.", "Subtract {1} from {0}.", "Calculate {} minus {}.")
PRODUCT = ("What is {} * {}?", "Compute {} * {}.", "{} * {} = ?", "Multiply {} by {}.", "How much is {} times {}?",
           "What is {} times {}?", "What is the product of {} and {}?", "Calculate {} times {}.")


def _sum(low, high):
    def make(rng):
        a, b = rng.randint(low, high), rng.randint(low, high)
        return tuple(sorted((a, b))), rng.choice(SUM).format(a, b), str(a + b)

    return make


def _difference(low, high):
    def make(rng):
        b, a = sorted((rng.randint(low, high), rng.randint(low, high)))
        return (a, b), rng.choice(DIFFERENCE).format(a, b), str(a - b)

    return make


sum_two_digits = _sum(10, 99)
sum_three_digits = _sum(100, 999)
difference_two_digits = _difference(10, 99)
difference_three_digits = _difference(100, 999)


def product(rng):
    a, b = rng.randint(2, 99), rng.randint(2, 9)
    key = tuple(sorted((a, b)))
    if rng.random() < 0.25:
        a, b = b, a
    return key, rng.choice(PRODUCT).format(a, b), str(a * b)


def two_steps(rng):
    if rng.random() < 0.5:
        a, b = rng.randint(5, 30), rng.randint(5, 30)
        c = rng.randint(1, min(20, a + b))
        text = rng.choice(("What is {} + {} - {}?", "Compute {} + {} - {}.", "Add {} and {}, then subtract {}.",
                           "How much is {} plus {} minus {}?", "I have {}, get {} and lose {}. How many are left?"))
        return ("+-", a, b, c), text.format(a, b, c), str(a + b - c)
    a, b, c = rng.randint(2, 9), rng.randint(2, 9), rng.randint(1, 20)
    text = rng.choice(("What is {} * {} + {}?", "Compute {} * {} + {}.", "Multiply {} by {}, then add {}.",
                       "How much is {} times {} plus {}?", "I have {} bags of {} and {} more. How many in all?"))
    return ("*+", a, b, c), text.format(a, b, c), str(a * b + c)


def compare(rng):
    digits, count = rng.choice((2, 3, 3, 4)), rng.choice((2, 3))
    numbers = set()
    base = rng.randint(10 ** (digits - 1), 10**digits - 1)
    while len(numbers) < count:
        near = rng.random() < 0.5
        number = base + rng.randint(-20, 20) if near else rng.randint(10 ** (digits - 2), 10**digits - 1)
        numbers.add(max(1, number))
    numbers = list(numbers)
    rng.shuffle(numbers)
    listing = ", ".join(map(str, numbers[:-1])) + rng.choice((" or ", " or ", ", ")) + str(numbers[-1])
    largest = rng.random() < 0.6
    if largest:
        text = rng.choice(("Which is larger: {}?", "Which is the largest: {}?", "What is the biggest number: {}?",
                           "Which number is greater, {}?", "Pick the largest of {}."))
    else:
        text = rng.choice(("Which is smaller: {}?", "Which is the smallest: {}?", "What is the least number: {}?",
                           "Which number is smaller, {}?", "Pick the smallest of {}."))
    pick = max if largest else min
    return (largest, *sorted(numbers)), text.format(listing), str(pick(numbers))


def sort_numbers(rng):
    numbers = rng.sample(range(1, 100), rng.choice((3, 4, 4, 5)))
    down = rng.random() < 0.3
    if down:
        text = rng.choice(("Sort from largest to smallest: {}", "Put in descending order: {}", "Sort {} in descending order."))
    else:
        text = rng.choice(("Sort from smallest to largest: {}", "Put in ascending order: {}", "Sort the numbers {}",
                           "Sort {} in ascending order.", "Arrange these numbers in ascending order: {}"))
    ordered = sorted(numbers, reverse=down)
    return (down, *sorted(numbers)), text.format(" ".join(map(str, numbers))), " ".join(map(str, ordered))


def sequence(rng):
    step, start = rng.randint(2, 12), rng.randint(1, 50)
    if rng.random() < 0.3:
        start, step = start + 4 * step, -step
    terms = [start + step * i for i in range(5)]
    text = rng.choice(("What comes next: {}?", "Continue the sequence: {}", "Next number after {}?",
                       "What is the next term of {}?", "Which number follows {}?", "Find the next number: {}"))
    return (start, step), text.format(", ".join(map(str, terms[:4]))), str(terms[4])


def roman(n):
    out = ""
    for value, letters in ROMAN:
        while n >= value:
            out, n = out + letters, n - value
    return out


def to_roman(rng):
    n = rng.randint(1, 399)
    text = rng.choice(("Write {} in Roman numerals.", "What is {} in Roman numerals?", "Convert {} to Roman numerals.",
                       "Give the Roman numeral for {}.", "How is {} written in Roman numerals?", "Roman numeral of {}?"))
    return (n,), text.format(n), roman(n)


def from_roman(rng):
    n = rng.randint(1, 399)
    text = rng.choice(("What number is {}?", "What is the value of the Roman numeral {}?", "Convert {} from Roman numerals.",
                       "Which number does {} stand for?", "Read the Roman numeral {}.", "Write {} as a number."))
    return (n,), text.format(roman(n)), str(n)


def weekday(rng):
    day, offset, after = rng.randrange(7), rng.randint(1, 30), rng.random() < 0.6
    word = "after" if after else "before"
    if after and rng.random() < 0.4:
        text = rng.choice(("Today is {d}. Which day is it in {n} days?", "If today is {d}, what day is it in {n} days?",
                           "It is {d}. What day will it be in {n} days?"))
    else:
        text = rng.choice(("What day is {n} days {w} {d}?", "Which day of the week is {n} days {w} {d}?",
                           "Tell me the day {n} days {w} {d}.", "Which day comes {n} days {w} {d}?"))
    answer = DAYS[(day + (offset if after else -offset)) % 7]
    return (day, offset, after), text.format(d=DAYS[day], n=offset, w=word), answer


def date(rng):
    month, offset = rng.randrange(12), rng.randint(1, 30)
    day = rng.randint(1, MONTH_DAYS[month])
    text = rng.choice(("What date is {n} days after {d} {m}?", "Which date comes {n} days after {d} {m}?",
                       "Today is {d} {m}. What is the date in {n} days?", "It is {d} {m}. Which date is it in {n} days?",
                       "Give the date {n} days after {d} {m}.", "Add {n} days to {d} {m}."))
    text = text.format(d=day, m=MONTHS[month], n=offset)
    key, total = (month, day, offset), day + offset
    while total > MONTH_DAYS[month]:
        total, month = total - MONTH_DAYS[month], (month + 1) % 12
    return key, text, f"{total} {MONTHS[month]}"


UNITS = (("metres", "centimetres", 100), ("kilometres", "metres", 1000), ("kilograms", "grams", 1000),
         ("centimetres", "millimetres", 10), ("hours", "minutes", 60), ("minutes", "seconds", 60), ("weeks", "days", 7),
         ("days", "hours", 24), ("feet", "inches", 12), ("yards", "feet", 3))


def units(rng):
    big, little, factor = rng.choice(UNITS)
    n = rng.randint(2, 25 if factor in (24, 12) else 60 if factor in (60, 7) else 99)
    text = rng.choice(("How many {l} are {n} {b}?", "Convert {n} {b} to {l}.", "What is {n} {b} in {l}?",
                       "How many {l} are there in {n} {b}?", "Express {n} {b} in {l}.", "{n} {b} is how many {l}?"))
    return (big, little, n), text.format(l=little, b=big, n=n), str(n * factor)


def count_list(rng):
    step = rng.choice((1, 1, 1, 2, 3, 5, 10))
    start, terms = rng.randint(1, 60), rng.randint(4, 14)
    end = start + step * (terms - 1)
    down = rng.random() < 0.25
    numbers = range(end, start - 1, -step) if down else range(start, end + 1, step)
    text = rng.choice(("Count from {a} to {b}", "List the numbers from {a} to {b}", "Write the numbers from {a} to {b}",
                       "Give all numbers from {a} to {b}", "Please count from {a} to {b}"))
    steps = "." if step == 1 else rng.choice((" by {}s.", " in steps of {}.", " with step {}.")).format(step)
    text = text.format(a=numbers[0], b=numbers[-1]) + steps
    return (numbers[0], numbers[-1], step), text, " ".join(map(str, numbers))


def multiples(rng):
    k, n = rng.randint(2, 25), rng.randint(3, 10)
    text = rng.choice(("List the first {n} multiples of {k}.", "Give {n} multiples of {k}.",
                       "Write the first {n} multiples of {k}.",
                       "What are the first {n} multiples of {k}?", "Name the first {n} multiples of {k}."))
    return (k, n), text.format(n=n, k=k), " ".join(str(k * i) for i in range(1, n + 1))


def in_words(n):
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + ("-" + ONES[n % 10] if n % 10 else "")
    if n < 1000:
        return ONES[n // 100] + " hundred" + (" and " + in_words(n % 100) if n % 100 else "")
    rest = n % 1000
    return in_words(n // 1000) + " thousand" + ((" and " if rest < 100 else " ") + in_words(rest) if rest else "")


def number_words(rng):
    n = rng.randint(21, 10 ** rng.choice((2, 3, 4, 4)) - 1)
    text = rng.choice(("Write {} in words.", "Spell out the number {}.", "How do you say {} in words?",
                       "Write the number {} as words.", "What is {} in words?", "Put {} into words."))
    return (n,), text.format(n), in_words(n)


def words_number(rng):
    n = rng.randint(21, 10 ** rng.choice((2, 3, 4)) - 1)
    text = rng.choice(('Write "{}" in digits.', 'Which number is "{}"?', 'Convert "{}" to digits.', 'What is "{}" in figures?',
                       'Give "{}" as a number.', 'Put "{}" into figures.'))
    return (n,), text.format(in_words(n)), str(n)
