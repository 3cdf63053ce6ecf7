"""The words that tasks are drawn from. Every fourth value of each pool is used by test rows only.

All people, addresses and shops are made up; mail and web addresses end in .example, phone numbers are the 555-01xx that
no one has.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def words(text: str) -> tuple[str, ...]:
    """The words of a block of text, in order; none may be there twice."""
    found = tuple(text.split())
    assert len(set(found)) == len(found), f"twice in a pool: {sorted({w for w in found if found.count(w) > 1})}"
    return found


def sections(file: str) -> dict[str, tuple[str, ...]]:
    """The lines under each [heading] of a text file beside this one; empty lines and # comments are left out."""
    found: dict[str, list[str]] = {}
    for line in (HERE / file).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            lines = found.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("# "):
            lines.append(line)
    return {heading: tuple(lines) for heading, lines in found.items()}


FIRST_NAMES = words("""
    Mara Owen Lucia Tomas Priya Felix Hana Ivan Nadia Oscar Greta Samir Elena Hugo Aisha Bruno Clara Dmitri
    Esther Farid Gina Henrik Ines Jonas Kenji Laila Marco Nora Olga Pablo Quinn Rosa Stefan Tara Umar Vera
    Walter Ximena Yusuf Zoe Anton Bela Carmen Darius Edith Fiona Gustav Helga Igor Julia Karim Leona Milan Nina
    Otto Petra Rafael Selma Theo Ursula
""")
LAST_NAMES = words("""
    Lopez Novak Okafor Lindgren Moreau Tanaka Fischer Rossi Haddad Kowalski Byrne Silva Petrov Jensen Mbeki
    Castillo Weaver Duarte Ferrari Gruber Holm Ibarra Jansen Keller Larsen Mendez Nilsson Ortega Pereira Quigley
    Romero Sato Torres Ueda Vargas Wagner Yilmaz Zeman Abbott Becker Conti Dalton Eriksen Fontana Garcia Hoffman
    Ivanov Joshi
""")
CITIES = words("""
    Lima Oslo Cairo Porto Vienna Quito Nairobi Lyon Hanoi Bergen Dakar Prague Bogota Turin Leeds Osaka Denver
    Malaga Ghent Perth Tunis Krakow Havana Riga Seville Boston Accra Geneva Manila Toledo Dublin Izmir Austin
    Split Nantes Calgary Basel Cusco Delhi Essen Florence Graz Haifa Jaipur Kyoto Lagos Madrid Naples
""")
THINGS = words("""
    lamp table pencil basket mirror candle bottle ladder blanket hammer kettle pillow bucket wallet camera
    guitar ticket helmet carpet magnet button ribbon zipper needle shovel puzzle statue vase drum flute tent
    rope lantern compass notebook umbrella backpack scarf glove jacket boot sandal belt ring bracelet necklace
    spoon fork plate bowl cup tray jar broom towel soap brush comb razor stamp poster clock radio printer
    charger cable battery speaker keyboard
""")
FOODS = words("""
    apple bread cheese olive mango rice honey butter lemon onion garlic pepper tomato carrot spinach celery
    cherry peach grape melon banana almond walnut raisin yogurt pasta noodle lentil bean salmon tuna shrimp
    bacon turkey ham egg milk coffee cocoa vanilla ginger basil mint parsley thyme mustard vinegar sugar flour
    oats barley corn potato cabbage pumpkin radish turnip leek plum fig
""")
COLOURS = words("""
    red blue green yellow black white purple orange brown grey pink silver gold violet navy teal crimson ivory
    beige amber
""")
ANIMALS = words("""
    otter tiger rabbit sparrow dolphin horse lizard eagle spider salmon camel wolf beetle panda goose shark frog
    hedgehog zebra parrot donkey mouse turtle bear whale monkey penguin squirrel crab owl goat moth badger
    lobster heron ant
""")
PLANTS = words("""
    oak tulip fern cactus maple daisy bamboo ivy rose clover birch lavender willow sunflower orchid pine moss
    nettle lily elm dandelion poppy spruce jasmine heather cedar marigold thistle palm magnolia reed lotus hazel
    juniper violet aspen
""")
MINERALS = words("""
    quartz granite gold marble copper salt iron diamond limestone silver slate ruby basalt nickel graphite
    emerald zinc sapphire chalk tin opal sandstone lead topaz feldspar gypsum platinum garnet talc mica cobalt
    jade pyrite tungsten obsidian titanium
""")
PLACES = words("""
    kitchen garden office library garage attic bakery museum station harbor school market hotel bridge chapel
    factory theater gallery stadium clinic airport castle cellar workshop
""")
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = words("January February March April May June July August September October November December")
DOMAINS = words("""
    lumen birch harbor pixel meadow cobalt anchor saffron orbit juniper summit willow beacon canyon delta ember
    falcon granite hazel indigo jasper kestrel lagoon maple
""")
ADJECTIVES = words("""
    quick quiet bright narrow hidden gentle wooden modern ancient early frozen golden hollow simple silent spare
    broken clever dusty empty fancy humble icy joyful kind lively muddy noble open polite rapid sharp tidy
    useful vivid warm
""")
TAGS = words("""
    travel sunrise running coffee weekend garden music baking friday winter books hiking photo family summer
    yoga art cycling beach vegan launch startup football nature cooking film design history fashion rain coding
    chess camping wellness lunch mountains
""")
LINES = sections("lines.txt")
SENTENCES = LINES["sentences"]
TITLES = LINES["titles"]
