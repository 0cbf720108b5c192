"""Questions on the world: geography, culture, science, kinds of things, multiple choice."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from hybrid_batch.demo.tasks.item import Item, table

_CAPITALS = table("""
France => Paris
Japan => Tokyo
Italy => Rome
Egypt => Cairo
Canada => Ottawa
Australia => Canberra
Peru => Lima
Kenya => Nairobi
Norway => Oslo
Thailand => Bangkok
Mongolia => Ulaanbaatar|Ulan Bator
Portugal => Lisbon
Iceland => Reykjavik
New Zealand => Wellington
Kyrgyzstan => Bishkek
Burkina Faso => Ouagadougou
Slovenia => Ljubljana
Zambia => Lusaka
Spain => Madrid
Germany => Berlin
Russia => Moscow
China => Beijing
Turkey => Ankara
Poland => Warsaw
Sweden => Stockholm
Finland => Helsinki
Chile => Santiago
Argentina => Buenos Aires
Greece => Athens
Cuba => Havana
""")

_WORLD = table("""
Which river flows through London? => Thames
Which mountain is the highest above sea level? => Everest
Which ocean is the largest? => Pacific
On which continent is Egypt? => Africa
On which continent is Brazil? => South America
Who wrote the play Romeo and Juliet? => Shakespeare
Who painted the Mona Lisa? => Leonardo|Vinci
Who was the first president of the United States? => Washington
Which country gave the Statue of Liberty to the United States? => France
In which country is the Great Wall mostly found? => China
What is the currency of Japan? => yen
What is the currency of Poland? => zloty
What is the currency of Hungary? => forint
What is the main language spoken in Brazil? => Portuguese
What is the main language spoken in Austria? => German
Who wrote the novel War and Peace? => Tolstoy
Who composed the opera The Magic Flute? => Mozart
Who painted Guernica? => Picasso
In which year did the Second World War end? => 1945
In which year did people first walk on the Moon? => 1969
In which year did the Titanic sink? => 1912
In which year did the Berlin Wall fall? => 1989
""")

_SCIENCE = table("""
Which planet is closest to the Sun? => Mercury
Which planet is the largest of the solar system? => Jupiter
Which planet is called the Red Planet? => Mars
Which organ pumps blood through the body? => heart
Which gas do plants take from the air to make sugar? => carbon dioxide|CO2
Which gas makes up most of the air? => nitrogen
How many legs does a spider have? => 8|eight
How many legs does an insect have? => 6|six
How many planets does the solar system have? => 8|eight
How many bones does an adult human usually have? => 206
How many chromosomes does a human body cell usually have? => 46|forty six
At how many degrees Celsius does water freeze at sea level? => 0|zero
At how many degrees Celsius does water boil at sea level? => 100
How many chambers does the human heart have? => 4|four
What is the chemical formula of water? => H2O
What is the chemical formula of table salt? => NaCl
What force pulls things towards the Earth? => gravity|gravitation|gravitational
What is the SI unit of force? => newton|newtons|N
What is the SI unit of electrical resistance? => ohm|ohms|Ω
What is the SI unit of frequency? => hertz|Hz
What is the SI unit of power? => watt|watts|W
What is the SI unit of pressure? => pascal|pascals|Pa
What is the hardest natural mineral? => diamond
By what process do plants make food from sunlight? => photosynthesis
Who is known for the theory of relativity? => Einstein
Who discovered penicillin? => Fleming
Which metal is liquid at room temperature? => mercury
What is the study of weather called? => meteorology
What is the atomic number of carbon? => 6|six
What is the atomic number of oxygen? => 8|eight
What is the atomic number of iron? => 26
What is the chemical symbol of gold? => Au
What is the chemical symbol of iron? => Fe
What is the chemical symbol of sodium? => Na
What is the chemical symbol of silver? => Ag
What is the chemical symbol of lead? => Pb
What is the chemical symbol of potassium? => K
What is the chemical symbol of copper? => Cu
What is the chemical symbol of calcium? => Ca
What is the chemical symbol of zinc? => Zn
What is the chemical symbol of helium? => He
What is the chemical symbol of tin? => Sn
Which blood cells fight infections, red or white? => white
Which is the largest organ of the human body? => skin
What star is at the centre of our solar system? => Sun
""")

_KINDS = {
    "mammal": ("dog", "whale", "bat", "horse", "dolphin", "rabbit", "tiger", "kangaroo", "otter", "elephant"),
    "bird": (
        "eagle",
        "penguin",
        "sparrow",
        "ostrich",
        "owl",
        "parrot",
        "flamingo",
        "swan",
        "robin",
        "pigeon",
    ),
    "fish": ("salmon", "tuna", "trout", "shark", "cod", "eel", "herring", "carp", "seahorse", "sardine"),
    "insect": (
        "ant",
        "bee",
        "butterfly",
        "beetle",
        "mosquito",
        "grasshopper",
        "moth",
        "wasp",
        "termite",
        "cricket",
    ),
}

_SYNONYMS = table("""
happy => glad, tired, angry, hungry
big => large, narrow, quiet, cold
quick => fast, heavy, late, soft
begin => start, finish, carry, sleep
smart => clever, tall, dirty, lonely
silent => quiet, bright, round, sweet
repair => fix, break, sell, hide
brave => courageous, weak, honest, rich
ancient => old, modern, wet, cheap
reply => answer, question, jump, forget
abundant => plentiful, scarce, fragile, hostile
reluctant => unwilling, eager, generous, precise
candid => frank, sweet, secret, dim
frugal => thrifty, wasteful, noisy, graceful
""")


def world(rng: Random) -> Iterator[Item]:
    for country, capital in rng.sample(_CAPITALS, len(_CAPITALS)):
        yield Item(f"What is the capital of {country}? Answer with the name only.", capital, "contains")
    for question, answer in rng.sample(_WORLD, len(_WORLD)):
        yield Item(f"{question} Answer in a few words.", answer, "contains")


def science(rng: Random) -> Iterator[Item]:
    for question, answer in rng.sample(_SCIENCE, len(_SCIENCE)):
        check = "case" if "chemical symbol" in question else "contains"
        yield Item(f"{question} Answer with one word, number or symbol.", answer, check)


def category(rng: Random) -> Iterator[Item]:
    rows = [(kind, animal) for kind, animals in _KINDS.items() for animal in animals]
    rng.shuffle(rows)
    for kind, animal in rows:
        article = "an" if animal[0] in "aeiou" else "a"
        prompt = f"Is {article} {animal} a mammal, a bird, a fish or an insect? Answer with one of these four words."
        yield Item(prompt, kind, "label:" + "|".join(_KINDS))


def choice(rng: Random) -> Iterator[Item]:
    for word, options in _SYNONYMS:
        right, *wrong = options.split(", ")
        yield _lettered(rng, f'Which word means about the same as "{word}"?', right, wrong)
    capitals = dict(_CAPITALS)
    for country in rng.sample(sorted(capitals), 6):
        others = [name.split("|")[0] for land, name in capitals.items() if land != country]
        right = capitals[country].split("|")[0]
        yield _lettered(rng, f"Which city is the capital of {country}?", right, rng.sample(others, 3))
    for _ in range(6):
        kind, other = rng.sample(sorted(_KINDS), 2)
        yield _lettered(
            rng,
            f"Which of these is a kind of {kind}?",
            rng.choice(_KINDS[kind]),
            rng.sample(_KINDS[other], 3),
        )


def _lettered(rng: Random, question: str, right: str, wrong: list[str]) -> Item:
    options = [right, *wrong]
    rng.shuffle(options)
    lines = [f"{letter}) {option}" for letter, option in zip("ABCD", options, strict=True)]
    prompt = "\n".join([question, *lines, "Answer with the letter and the word."])
    return Item(prompt, "ABCD"[options.index(right)], "choice")
