"""Word operands: common English words and pronounceable invented ones."""

COMMON = """
apple arrow baker banana basket beach bean bear bell bench berry bird blade blanket board boat bone book boot
bottle bowl box branch bread brick bridge brush bucket butter button cabin cable cake camel camera candle canoe
canvas card carpet carrot castle cat chain chair cheese cherry chest chicken circle city clay clock cloth cloud
clover coach coast coffee coin comet copper coral corn cotton couch cousin cow crab crane cream crow crown cup
curtain dance deer desert desk diamond dinner doctor dog dollar donkey door dragon dream dress drum duck dust
eagle earth edge egg elbow engine falcon farm farmer feather fence field finger fire fish flag flame flower
flute fog forest fork fox frame friend frog fruit garden garlic gate ghost ginger glass glove goat gold goose
grape grass guitar hammer hand harbor hat hawk heart hill honey hook horn horse hotel house ice island ivory
jacket jam jar jewel juice jungle kettle key king kitchen kite kitten knee knife ladder lake lamb lamp leaf
lemon letter light lily lion lizard lock lotus machine magnet map maple marble market melon metal milk mirror
monkey moon morning mountain mouse music nail needle nest night noodle north nose novel oak ocean olive onion
orange orbit otter oven owl paint palace panda paper parrot path peach pear pebble pencil pepper piano picture
pillow pilot pine pirate plane planet plant plate pocket poem pond pony potato prince pumpkin puzzle queen
quilt rabbit radio rain raven ribbon rice ring river road robin rocket roof root rope rose ruler saddle sail
salad salt sand school seed shadow shark sheep shelf shell ship shirt shoe silver singer sister sky sled smile
snake snow soap sock song soup spider spoon spring square stable star station stone storm story stove straw
street sugar summer sun swan table tailor tea temple tent thread thunder ticket tiger toast tomato tooth tower
town train travel tree truck trumpet tulip tunnel turtle umbrella uncle valley velvet village violin wagon
wall walnut water wave wheat wheel whistle willow window winter wolf wood wool yarn zebra
""".split()

_ONSETS = "b c d f g h j k l m n p r s t v w z br cl dr fl gr pl pr sh sl st th tr".split()
_VOWELS = "a e i o u a e o ai ee oo".split()
_CODAS = ["", "", "", "n", "r", "l", "t", "m", "s", "k", "p", "d", "ck", "nd", "st"]


def invented(rng, shortest, longest):
    """An invented word of the wanted length, such as `brolat`."""
    while True:
        syllables = rng.choice((1, 2, 2, 2, 3, 3, 4))
        word = "".join(
            rng.choice(_ONSETS) + rng.choice(_VOWELS) + (rng.choice(_CODAS) if i + 1 == syllables or rng.random() < 0.3 else "")
            for i in range(syllables)
        )
        if shortest <= len(word) <= longest:
            return word


_BY_RANGE = {}


def any_word(rng, shortest=3, longest=8):
    """A common word a third of the time, an invented one otherwise."""
    if rng.random() < 0.34:
        key = (shortest, longest)
        if key not in _BY_RANGE:
            _BY_RANGE[key] = [w for w in COMMON if shortest <= len(w) <= longest]
        return rng.choice(_BY_RANGE[key])
    return invented(rng, shortest, longest)
