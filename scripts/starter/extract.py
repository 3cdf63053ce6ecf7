"""Families that copy one thing out of a text, exactly as it stands there."""

from __future__ import annotations

from . import pools
from .family import Draw, Family, Task
from .pools import lines

MAIL_LINES = lines("""
    Please write to {} before Friday.
    Send the signed form to {} today.
    You can reach our office at {} all week.
    The invoice went to {} last night.
    Questions? Ask {} or call us.
    My new address is {} from now on.
    Forward this note to {} when you can.
    I got no reply from {} yet.
    For refunds, contact {} directly.
    Add {} to the guest list.
    Reports should go to {} each month.
    The editor, {}, wants a shorter text.
    Could you copy {} on the reply?
    Tickets are sold by {} only.
    We wrote to {} twice in May.
    Your contact for repairs is {} now.
""")
PRICE_LINES = lines("""
    The {} costs {} this week.
    I paid {1} for a {0} yesterday.
    A used {} sold for {} at the fair.
    They lowered the {} to {} overnight.
    That {} in the window is {} now.
    She bought the {} online for {} in May.
    With tax, the {} comes to {} in all.
    You can have the {} for {} today.
    Our cheapest {} is only {} here.
    He offered {1} for the old {0}.
    The shop wants {1} for one {0}.
    Repairing the {} would cost {} at least.
""")
DATE_LINES = lines("""
    The lease ends on {} at noon.
    We met in {city} on {} for lunch.
    Her visa is valid until {} only.
    On {} the new shop in {city} opens.
    The parcel left {city} on {} by ship.
    Payment is due by {} at the latest.
    He was born on {} in {city}.
    The course starts on {} this time.
    School is closed on {} for repairs.
    Please answer before {} if you can.
    The concert in {city} was moved to {} again.
    My passport was issued on {} in {city}.
""")
PHONE_LINES = lines("""
    Call {name} at {} after lunch.
    The front desk in {city} answers on {} all day.
    My number has changed to {} since May.
    For a taxi in {city}, dial {} now.
    {name} left a message from {} last night.
    Text {} to cancel the visit.
    The plumber, {name}, can be reached at {} today.
    If you get lost, ring {} for help.
    Our {city} branch uses {} for orders.
    Ask for {name} on {} before six.
    The clinic's line is {} at weekends.
    Her card says {name}, {} and nothing else.
""")
NAME_LINES = lines("""
    Yesterday {} opened the meeting in {city}.
    The prize went to {} from {city}.
    In {city}, {} runs a small bakery.
    A letter for {} arrived this morning.
    The goal was scored by {} in the last minute.
    Our new teacher, {}, moved here from {city}.
    After the storm, {} repaired the roof.
    The song was written by {} in {city}.
    Nobody knew that {} could paint.
    Last week {} sold the house in {city}.
    The keys belong to {} next door.
    Thanks to {}, the show went well.
""")
TAG_LINES = lines("""
    Morning walk by the lake
    So proud of our team today
    New recipe on the blog
    Back home after a long week
    First try with the new camera
    Look what I found at the market
    A perfect day with friends
    Still working on this one
    Nothing beats fresh air
    My view from the train
    Ready for the big day
    Small steps, big plans
""")
QUOTE_LINES = lines("""
    The sign on the door says "{}" in red.
    She whispered "{}" and left the room.
    His note began with "{}" and a drawing.
    The title of the song is "{}" I think.
    They painted "{}" on the wall.
    The robot only answers "{}" when asked.
    He signed the card with "{}" as always.
    Our motto was "{}" for years.
    The page is headed "{}" at the top.
    I heard someone shout "{}" outside.
    The email's subject was "{}" again.
    Write "{}" on the label first.
""")
QUOTED = lines("""
    wet paint
    back in five minutes
    good luck
    mind the step
    see you soon
    no dogs allowed
    please knock
    never give up
    over and out
    closed on Sunday
    fresh bread
    this way up
    many thanks
    do not touch
    slow and steady
    push to open
    with love
    sold out
    one at a time
    keep the door shut
    out of order
    free to a good home
    welcome back
    take your time
    handle with care
    last call
    quiet please
    under repair
""")
URL_LINES = lines("""
    The manual is at {} for everyone.
    Sign up on {} before Friday.
    Photos of the trip are on {} now.
    I read about it on {} last night.
    Orders go through {} only.
    You will find the map at {} soon.
    We moved our shop to {} in May.
    See {} for the opening hours.
""")


def address(draw: Draw) -> str:
    first, last = draw.one(pools.FIRST_NAMES).lower(), draw.one(pools.LAST_NAMES).lower()
    local = draw.rng.choice([f"{first}.{last}", first, f"{first}{draw.number(2, 99)}", f"{first[0]}.{last}"])
    return f"{local}@{draw.one(pools.DOMAINS)}.example"


def person(draw: Draw) -> str:
    return f"{draw.one(pools.FIRST_NAMES)} {draw.one(pools.LAST_NAMES)}"


def around(line: str, draw: Draw, value: str) -> str:
    return line.format(value, name=draw.one(pools.FIRST_NAMES), city=draw.one(pools.CITIES))


def email(draw: Draw) -> Task:
    value = address(draw)
    return Task(draw.one(MAIL_LINES).format(value), value)


def price(draw: Draw) -> Task:
    value = f"${draw.number(2, 180)}.{draw.number(0, 99):02d}"
    return Task(draw.one(PRICE_LINES).format(draw.one(pools.THINGS), value), value)


def date(draw: Draw) -> Task:
    value = f"{draw.number(1, 28)} {draw.one(pools.MONTHS)} {draw.number(1990, 2030)}"
    return Task(around(draw.one(DATE_LINES), draw, value), value)


def phone(draw: Draw) -> Task:
    value = f"555-01{draw.number(0, 99):02d}"
    return Task(around(draw.one(PHONE_LINES), draw, value), value)


def name(draw: Draw) -> Task:
    value = person(draw)
    return Task(draw.one(NAME_LINES).format(value, city=draw.one(pools.CITIES)), value)


def hashtags(draw: Draw) -> Task:
    value = " ".join(f"#{tag}" for tag in draw.some(pools.TAGS, draw.size(2, 3)))
    return Task(f"{draw.one(TAG_LINES)} {value}", value)


def quoted(draw: Draw) -> Task:
    value = draw.one(QUOTED)
    return Task(draw.one(QUOTE_LINES).format(value), value)


def url(draw: Draw) -> Task:
    value = f"https://{draw.one(pools.DOMAINS)}.example/{draw.one(pools.TAGS)}"
    return Task(draw.one(URL_LINES).format(value), value)


FAMILIES = (
    Family(
        "extract_email",
        email,
        (
            "Copy the email address from this text. Answer with the address only.",
            "Which email address is given here? Reply with just the address.",
            "Find the email address and write nothing else.",
            "Extract the email from the sentence; output only the email.",
            "What is the email address below? Only the address, please.",
            "Return the email address in this line and nothing more.",
            "Pull out the mail address, without any other words: {input}",
            "I need the e-mail contact from this message. Give me only the address.",
            "Give the address for mail that the text contains, no comment.",
        ),
    ),
    Family(
        "extract_price",
        price,
        (
            "What is the price? Answer with the amount only, as written.",
            "Copy the price from the text, with the dollar sign and nothing else.",
            "Extract the amount of money. Output just the amount.",
            "How much is it? Reply only with the price exactly as it appears.",
            "Find the price in this sentence and return it alone.",
            "Give only the dollar amount that is mentioned.",
            "Return the price as it is written, no words around it: {input}",
            "Look for the sum of money below and write that sum only.",
            "Which price does the sentence name? Just the price, please.",
        ),
    ),
    Family(
        "extract_date",
        date,
        (
            "Copy the date from this sentence. Answer with the date only.",
            "Which date is mentioned? Reply with just the date, as written.",
            "Extract the full date and output nothing else.",
            "Find the date below; write only the date.",
            "When? Give only the date, exactly as it stands in the text.",
            "Return the day, month and year as written, nothing more.",
            "Write out only the date that this text contains: {input}",
            "I only want the date in this line. Keep its form.",
            "Pick the date out of the text and answer with it alone.",
        ),
    ),
    Family(
        "extract_phone",
        phone,
        (
            "Copy the phone number. Answer with the number only.",
            "Which phone number is in the text? Just the number, please.",
            "Extract the telephone number and nothing else.",
            "Find the number to call and return it alone.",
            "Give only the phone number from this sentence.",
            "Output the phone number as written, without other words.",
            "What number should I dial? Reply with digits and dash only.",
            "Return the telephone number that appears below, nothing more.",
        ),
    ),
    Family(
        "extract_name",
        name,
        (
            "Which person is mentioned? Answer with the full name only.",
            "Copy the person's name from the sentence, nothing else.",
            "Extract the full name of the person. Output only the name.",
            "Who is this about? Give just the first and last name.",
            "Find the name of the person and return it alone.",
            "Reply with only the person's full name.",
            "Write the first and last name found in this text: {input}",
            "Name the person in the text below. Only the name, please.",
            "Return the human being's full name and no other word.",
        ),
    ),
    Family(
        "extract_hashtags",
        hashtags,
        (
            "List the hashtags in this post, separated by spaces, nothing else.",
            "Copy all hashtags in order, with a space between them.",
            "Which hashtags are used? Output only the hashtags.",
            "Extract the hashtags and keep their order. No other text.",
            "Return just the tags with their # signs.",
            "Give the post's hashtags only, separated by one space.",
            "Take the hashtags out of this post and write only them: {input}",
            "Answer with the hashtags of the post and leave out the rest.",
            "Find every word that starts with # and print those words only.",
        ),
    ),
    Family(
        "extract_quoted",
        quoted,
        (
            "Copy the text between the quotation marks, without the marks.",
            "What stands in quotes? Answer with those words only, no quotes.",
            "Extract the quoted words and drop the quotation marks.",
            "Return only what is inside the double quotes.",
            "Write just the words that are quoted, without quotation marks.",
            "Give the quoted phrase alone, no marks around it.",
            "Output the phrase in quotes, but leave the quotes out.",
            "Which words are within the quotation marks? Only these words, unquoted.",
        ),
    ),
    Family(
        "extract_url",
        url,
        (
            "Copy the web address from the text. Answer with the address only.",
            "Which link is given? Reply with just the link.",
            "Extract the URL and nothing else.",
            "Find the web link in this sentence and return it alone.",
            "Give only the URL that is mentioned.",
            "Output the link as written, no other words.",
            "Where on the web? Write the address only.",
            "Return just the website address below.",
        ),
        test_only=True,
    ),
)
