"""Families whose answer is one of a few labels, or one of the things shown."""

from __future__ import annotations

from . import pools
from .family import Draw, Family, Task
from .pools import lines

SUBJECTS = lines("""
    The film
    This hotel
    The new phone
    Our waiter
    The concert
    That book
    The lunch menu
    My dentist
    This jacket
    The city tour
    The online course
    Their coffee
    The museum guide
    This vacuum cleaner
    The bus ride
    The garden party
""")
PRAISE = lines("""
    was a joy from start to end.
    is the best that I have had.
    made us smile all day.
    was worth every cent.
    exceeded all my hopes.
    was wonderful, I would go again.
    is excellent and I love it.
    was simply perfect.
    left me happy and impressed.
    is great, thank you so much!
    was brilliant and friendly.
    deserves five stars.
""")
COMPLAINTS = lines("""
    was a waste of money.
    is the worst that I have had.
    ruined our whole day.
    was boring and far too long.
    failed after an hour.
    was awful, never again.
    is terrible and I regret it.
    was rude and slow.
    left me angry and tired.
    is broken, I want my money back!
    was dirty and overpriced.
    deserves no stars at all.
""")
TOPICS = {
    "sports": lines("""
        The goalkeeper saved two penalties.
        She won the race by a second.
        Their coach praised the young striker.
        The tennis final lasted five hours.
        He broke the swimming record again.
        The team lost in extra time.
        Fans cheered as the match began.
        The cyclist wore the yellow jersey.
    """),
    "food": lines("""
        Simmer the sauce for ten minutes.
        This bakery sells warm rye bread.
        Add garlic and a pinch of salt.
        The soup tastes of fresh basil.
        We ordered noodles and green tea.
        Her apple pie has a crisp crust.
        Fry the onions until golden.
        The chef roasted a whole duck.
    """),
    "weather": lines("""
        Heavy rain is expected tonight.
        Fog covered the valley at dawn.
        Tomorrow will be sunny and warm.
        A cold wind blows from the north.
        Snow fell on the hills all day.
        The storm brought hail and thunder.
        Temperatures drop below zero tonight.
        Clouds will clear by the afternoon.
    """),
    "music": lines("""
        The pianist played a slow waltz.
        Her new album has twelve songs.
        The choir practised the chorus twice.
        He tuned his guitar before the show.
        The orchestra began with a symphony.
        A drum solo opened the concert.
        The singer forgot the second verse.
        They recorded the melody on violin.
    """),
}
LANGUAGES = {
    "French": lines("""
        Où est la gare, s'il vous plaît ?
        Le chat dort sur la chaise.
        Nous aimons le pain frais.
        Elle habite près de la mer.
        Je voudrais un verre d'eau.
        Il fait très froid ce matin.
        Les enfants jouent dans le jardin.
        Mon frère a perdu ses clés.
    """),
    "Spanish": lines("""
        ¿Dónde está la estación?
        El gato duerme en la silla.
        Nos gusta el pan fresco.
        Ella vive cerca del mar.
        Quiero un vaso de agua.
        Hace mucho frío esta mañana.
        Los niños juegan en el jardín.
        Mi hermano perdió sus llaves.
    """),
    "German": lines("""
        Wo ist der Bahnhof, bitte?
        Die Katze schläft auf dem Stuhl.
        Wir mögen frisches Brot.
        Sie wohnt in der Nähe des Meeres.
        Ich möchte ein Glas Wasser.
        Heute Morgen ist es sehr kalt.
        Die Kinder spielen im Garten.
        Mein Bruder hat seine Schlüssel verloren.
    """),
    "English": lines("""
        Where is the station, please?
        The cat sleeps on the chair.
        We like fresh bread.
        She lives close to the sea.
        I would like a glass of water.
        It is very cold this morning.
        The children play in the garden.
        My brother lost his keys.
    """),
}
QUESTIONS = lines("""
    Where did you park the car
    When does the shop open
    Who left the window open
    Why is the sky so dark
    How long is the flight
    Can you hear the music
    Did she answer the letter
    Is the soup still warm
    What did the doctor say
    Which road leads to the lake
    Are they coming by train
    Have you seen my glasses
    Does this bus stop here
    Will it rain tomorrow
    Could he lend us a tent
    Was the exam difficult
""")
STATEMENTS = lines("""
    You parked the car behind the bank
    The shop opens at nine
    Someone left the window open
    The sky is dark tonight
    The flight takes two hours
    We can hear the music
    She answered the letter
    The soup is still warm
    The doctor said nothing new
    This road leads to the lake
    They are coming by train
    I have seen your glasses
    This bus stops here
    It will rain tomorrow
    He could lend us a tent
    The exam was difficult
""")
SPAM = lines("""
    You won a free cruise! Click now to claim it.
    Cheap pills, no prescription, order today!!!
    Congratulations, you were chosen for $5,000 cash.
    Lose 10 kilos in a week with this one trick!
    Your account is locked, send your password at once.
    Hot deal: luxury watches at 90 % off, act fast!
    Make $900 a day from home, no work needed!
    Claim your prize before midnight, winner!
    Double your bitcoin in an hour, guaranteed!
    Free gift card inside, just enter your bank PIN.
    Limited offer!!! Buy followers for one dollar.
    A rich prince needs your help to move his gold.
""")
HAM = lines("""
    Can we move our meeting to Tuesday?
    The report is attached, tell me what you think.
    Happy birthday! See you at the party tonight.
    I will pick up the kids at four.
    Thanks for the notes from yesterday's class.
    Mum asks if you are coming on Sunday.
    The plumber will be here at nine.
    Please bring the blue folder to the office.
    Our train is ten minutes late.
    Shall we have lunch on Thursday?
    I left your umbrella by the door.
    The team agreed on the second draft.
""")
INTENTS = {
    "refund": lines("""
        I want my money back for these shoes.
        Please return the amount I paid.
        The lamp broke, give me my money back.
        How do I get repaid for this order?
        You charged me twice, pay one back.
        Can I get my payment returned?
        I sent it back, when will I be repaid?
        Reimburse me for the missing book.
    """),
    "delivery": lines("""
        Where is my parcel?
        When will my order arrive?
        The package still has not come.
        Has my order been shipped yet?
        Can you track my shipment?
        My parcel should have arrived on Monday.
        The courier never rang the bell.
        How many days does shipping take?
    """),
    "password": lines("""
        I forgot my login code.
        I cannot sign in to my account.
        How can I reset my passcode?
        The site says my login is wrong.
        I am locked out of my account.
        Send me a link to reset my login.
        My sign-in does not work any more.
        Please let me choose a new passcode.
    """),
    "cancel": lines("""
        Stop my subscription, please.
        I do not want the order any more.
        Please end my membership today.
        Call off the booking for Friday.
        I would like to terminate my plan.
        Withdraw my order before it is packed.
        I no longer need the room I booked.
        End my contract at the end of May.
    """),
}
PLACE_NAMES = ("first", "second", "third", "last")


def labelled(draw: Draw, pools_by_label: dict[str, tuple[str, ...]]) -> tuple[str, str]:
    label = draw.rng.choice(sorted(pools_by_label))
    return draw.one(pools_by_label[label]), label


def sentiment(draw: Draw) -> Task:
    text, label = labelled(draw, {"positive": PRAISE, "negative": COMPLAINTS})
    return Task(f"{draw.one(SUBJECTS)} {text}", label)


def topic(draw: Draw) -> Task:
    return Task(*labelled(draw, TOPICS))


def language(draw: Draw) -> Task:
    return Task(*labelled(draw, LANGUAGES))


def question(draw: Draw) -> Task:
    return Task(*labelled(draw, {"question": QUESTIONS, "statement": STATEMENTS}))


def kingdom(draw: Draw) -> Task:
    return Task(*labelled(draw, {"animal": pools.ANIMALS, "plant": pools.PLANTS, "mineral": pools.MINERALS}))


def spam(draw: Draw) -> Task:
    return Task(*labelled(draw, {"spam": SPAM, "not spam": HAM}))


def intent(draw: Draw) -> Task:
    return Task(*labelled(draw, INTENTS))


def member(draw: Draw) -> Task:
    *items, other = draw.some(draw.rng.choice([pools.FOODS, pools.CITIES, pools.THINGS]), 5)
    wanted, answer = draw.rng.choice([(draw.rng.choice(items), "yes"), (other, "no")])
    return Task(", ".join(items), answer, {"word": wanted})


def nth_item(draw: Draw) -> Task:
    items = draw.some(draw.rng.choice([pools.FOODS, pools.CITIES, pools.THINGS, pools.ANIMALS]), 4)
    place = draw.rng.choice(PLACE_NAMES)
    return Task(", ".join(items), items[{"first": 0, "second": 1, "third": 2, "last": 3}[place]], {"place": place})


def larger_number(draw: Draw) -> Task:
    first, second = draw.some(range(10, 1000), 2)
    return Task(f"{first}, {second}", str(first if first > second else second))


def longest_word(draw: Draw) -> Task:
    chosen = draw.rng.choice([w for w in draw.side(pools.THINGS + pools.FOODS) if len(w) > 6])
    others = draw.rng.sample([w for w in draw.side(pools.THINGS + pools.FOODS) if len(w) < 5], 2)
    return Task(", ".join(draw.shuffled([chosen, *others])), chosen)


def first_word(draw: Draw) -> Task:
    text = draw.one(pools.SENTENCES)
    return Task(text, text.split()[0])


FAMILIES = (
    Family(
        "sentiment",
        sentiment,
        (
            "Is this review positive or negative? Answer with one word.",
            "Classify the sentiment as positive or negative, nothing else.",
            "Label the review: positive or negative.",
            "Does the writer sound pleased? Reply positive or negative.",
            "Say whether the opinion is 'positive' or 'negative'.",
            "Sentiment (positive/negative)? One word.",
            "Tell me if this opinion is positive or negative, in one word: {input}",
            "How does the customer feel: positive or negative? Just the word.",
            "Sort this remark into 'positive' or 'negative'.",
        ),
    ),
    Family(
        "topic",
        topic,
        (
            "What is this about: sports, food, weather or music? One word.",
            "Classify the topic as sports, food, weather or music.",
            "Choose the subject: food, music, sports or weather. Answer with the word only.",
            "Label the sentence with weather, sports, food or music.",
            "Which topic fits: music, weather, food, sports? Only the label.",
            "Assign one category (sports, food, weather, music) and write just that.",
            "Pick sports, food, weather or music for this sentence: {input}",
            "To which section does it belong: sports, food, weather, music? One word.",
            "Tag this line as food, sports, music or weather.",
        ),
    ),
    Family(
        "language",
        language,
        (
            "Which language is this: French, Spanish, German or English? One word.",
            "Name the language (English, French, German, Spanish) and nothing else.",
            "Identify the language of the sentence. Only its English name.",
            "Is it German, French, Spanish or English? Answer with the name.",
            "What language is the text written in? One word, in English.",
            "Label the language: Spanish, English, French or German.",
            "Tell me the language of this sentence in one English word: {input}",
            "Detect the language. Write English, French, German or Spanish.",
            "In which of these is it written: German, English, Spanish, French?",
        ),
    ),
    Family(
        "question_or_statement",
        question,
        (
            "Is this a question or a statement? One word.",
            "Punctuation is missing. Answer 'question' or 'statement'.",
            "Label the sentence: question or statement.",
            "Classify it as 'question' or 'statement' and write only that.",
            "Does the sentence ask or tell? Reply question or statement.",
            "Which is it, a statement or a question? Just the word.",
            "Decide between 'statement' and 'question' for this line.",
            "What type of sentence is this: question, statement? One word only.",
        ),
    ),
    Family(
        "kingdom",
        kingdom,
        (
            "Animal, plant or mineral? One word.",
            "Classify as animal, plant or mineral.",
            "Is this an animal, a plant or a mineral? Just the word.",
            "Choose one: mineral, plant, animal.",
            "Say only animal, plant or mineral.",
            "Which of the three is it: plant, animal, mineral?",
            "Label it with 'animal', 'plant' or 'mineral': {input}",
            "Put it in its class: plant, mineral or animal.",
            "Living beast, growing thing or stone? Answer animal, plant or mineral.",
        ),
    ),
    Family(
        "spam",
        spam,
        (
            "Is this message spam? Answer 'spam' or 'not spam'.",
            "Label the message: spam or not spam.",
            "Classify as 'spam' or 'not spam', nothing else.",
            "Should a filter block this? Reply spam or not spam.",
            "Spam or not spam? Only the label.",
            "Decide whether it is spam. Write 'spam' or 'not spam'.",
            "Mark this mail as 'not spam' or 'spam'.",
            "Would you call it spam? Say either spam or not spam.",
        ),
    ),
    Family(
        "intent",
        intent,
        (
            "What does the customer want: refund, delivery, password or cancel? One word.",
            "Classify the request as refund, delivery, password or cancel.",
            "Choose the intent: cancel, delivery, password, refund. Label only.",
            "Label this message with password, refund, cancel or delivery.",
            "Route it: delivery, refund, cancel or password? Just the word.",
            "Which desk handles this: refund, cancel, delivery, password?",
            "Give the intent (refund, delivery, password, cancel) of this message: {input}",
            "Pick one label for the support ticket: cancel, refund, password, delivery.",
            "The help desk sorts mail into delivery, password, refund, cancel. Which one?",
        ),
    ),
    Family(
        "membership",
        member,
        (
            "Is '{word}' in this list? Answer yes or no.",
            "Does the list contain '{word}'? Only yes or no.",
            "Say yes if '{word}' is among these, else no.",
            "Can you find '{word}' here? yes or no, in small letters.",
            "Check the list for '{word}' and reply yes or no.",
            "Is '{word}' one of the items? Just yes or no.",
            "Do we have '{word}' below? Write yes or no.",
            "Look for '{word}' and answer with yes or no only.",
        ),
    ),
    Family(
        "nth_item",
        nth_item,
        (
            "What is the {place} item? Only the item.",
            "Give the {place} item of the list and nothing else.",
            "Copy the {place} entry.",
            "Which item comes {place}? Answer with it alone.",
            "Return only the {place} thing in this list.",
            "Write just the {place} one.",
            "From this list take the {place} item and write it alone: {input}",
            "Pick out the item that stands {place}; no other words.",
            "Name only the {place} element.",
        ),
    ),
    Family(
        "larger_number",
        larger_number,
        (
            "Which number is larger? Only the number.",
            "Give the bigger of the two numbers.",
            "Write the greater number and nothing else.",
            "Return the maximum of these two.",
            "Of the two, which is more? Just the number.",
            "Copy the higher number.",
            "Compare the numbers; answer with the larger one only.",
            "Drop the smaller number and write the other.",
        ),
        hard=True,
    ),
    Family(
        "longest_word",
        longest_word,
        (
            "Which word is the longest? Only the word.",
            "Copy the word that has the most letters.",
            "Give the longest of these words, nothing else.",
            "Find the longest word and write it alone.",
            "Return just the word with the most letters.",
            "What is the longest item here? One word.",
            "One word has more letters than the others: write it.",
            "Name only the lengthiest word.",
        ),
    ),
    Family(
        "first_word",
        first_word,
        (
            "Copy the first word of the sentence, nothing else.",
            "What is the first word? Write it alone.",
            "Return only the word that the sentence begins with.",
            "Give just the opening word.",
            "Write the first word of this line.",
            "Which word comes first? Only that word.",
            "Answer with the initial word of the text.",
            "Output the word at the very beginning.",
        ),
        test_only=True,
    ),
)
