"""Phrase grammar of the demonstration corpus, and the frames of minimal pairs."""
from lexicon import (
    ADJECTIVES, FREE_TRANSITIVE, FREQUENCY, INTRANSITIVE, KIN, NAMES, NOUNS, NO_PROGRESSIVE,
    OUTDOORS, POSSESSIVES, PREPOSITIONS, RELATED, STATES, STRICT_TRANSITIVE, inflect, plural)

HELD_OUT_RATE = 0.3   # how often the held-out words are preferred where they are admitted
PEOPLE = ("person", "male", "female")


class Grammar:
    """Random phrases over the lexicon; `held_out` also admits the held-out words."""

    def __init__(self, rng, held_out):
        self.rng, self.held_out, self.used = rng, held_out, set()

    def chance(self, p):
        """Return True with probability p."""
        return self.rng.random() < p

    def choose(self, items):
        """Choose from a sequence or a blank-separated string."""
        return self.rng.choice(items.split() if isinstance(items, str) else items)

    def flip(self, first, second):
        """Return the two arguments in random order."""
        return (first, second) if self.chance(0.5) else (second, first)

    def word(self, table, accept=lambda entry: True):
        """Draw an entry of a table that this sentence has not used yet."""
        seen, _, held = table.partition("|")
        pools = [seen]
        if self.held_out:
            pools = [held, seen] if self.chance(HELD_OUT_RATE) else [seen, held]
        for pool in pools:
            entries = [e for e in pool.split() if e.split(":")[0] not in self.used and accept(e)]
            if entries:
                entry = self.rng.choice(entries)
                self.used.add(entry.split(":")[0])
                return entry
        raise LookupError("no word left in: " + table[:40])

    def past(self, table):
        """Draw a verb and return its past tense."""
        return inflect(self.word(table), "past")

    def number(self):
        """Choose a grammatical number."""
        return self.choose("sg pl")

    def noun(self, cls, num="sg"):
        """Draw a noun of a class in a number."""
        noun = self.word(NOUNS[cls])
        return plural(noun) if num == "pl" else noun

    def name(self, gender=None):
        """Draw a first name."""
        return self.word(NAMES[gender or self.choose("male female")])

    def np(self, cls, num="sg", det=None, adjective=0.2):
        """Build a noun phrase: determiner, perhaps an adjective, noun."""
        noun = self.word(NOUNS[cls])
        if noun in KIN:
            det = det or self.choose(POSSESSIVES)
        elif cls == "place":
            det = det or "the"
        elif det is None:
            det = self.choose(["the"] * 6 + ["a" if num == "sg" else ""] * 2 + POSSESSIVES)
            if cls in PEOPLE and det in POSSESSIVES and noun not in RELATED:
                det = "the"
        kind = "person" if cls in PEOPLE else cls
        adj = [self.word(ADJECTIVES[kind])] if self.chance(adjective) else []
        return det.split() + adj + [plural(noun) if num == "pl" else noun]

    def human_class(self):
        """Choose one of the noun classes for people."""
        return self.choose(["person"] * 3 + ["male", "female"])

    def subject(self, num=None, names=0.35):
        """Build a phrase that denotes one or several people."""
        num = num or self.number()
        if num == "sg" and self.chance(names):
            return [self.name()]
        if num == "pl" and self.chance(names / 3):
            return [self.name(), "and", self.name()]
        return self.np(self.human_class(), num)

    def place(self, cls=None):
        """Build a locative phrase that suits a class of things."""
        noun = self.word(OUTDOORS if cls in ("vehicle", "animal") else NOUNS["place"])
        return [PREPOSITIONS.get(noun, "in") if self.chance(0.75) else "near", "the", noun]

    def entry(self, table, cls=None, progressive=False):
        """Draw a transitive verb; return it with one class of its object."""
        def fits(entry):
            verb, classes = entry.split(":")
            return ((cls is None or cls in classes.split(","))
                    and not (progressive and verb in NO_PROGRESSIVE))
        verb, classes = self.word(table, fits).split(":")
        return verb, cls or self.choose(classes.split(","))

    def transitive(self, progressive=False):
        """Draw any transitive verb and one class of its object."""
        table = STRICT_TRANSITIVE if self.chance(0.5) else FREE_TRANSITIVE
        return self.entry(table, progressive=progressive)

    def object(self, cls, tail=0.0):
        """Build an object of a class, perhaps with a place."""
        if cls == "person":
            words = self.subject(names=0.25)
        else:
            words = self.np(cls, "sg" if cls == "place" else self.number())
        return words + (self.place(cls) if cls != "place" and self.chance(tail) else [])

    def vp(self, progressive=False, transitive=None, tail=0.25):
        """Return a verb and the words that follow it."""
        if self.chance(0.8) if transitive is None else transitive:
            verb, cls = self.transitive(progressive)
            return verb, self.object(cls, tail)
        verb = self.word(INTRANSITIVE, lambda v: not (progressive and v in NO_PROGRESSIVE))
        return verb, self.place() if self.chance(0.7) else []

    def clause(self, form="past", **options):
        """Return the words of a verb phrase whose verb is in the given form."""
        verb, rest = self.vp(progressive=form == "ing", **options)
        return [inflect(verb, form)] + rest

    def predicate(self, cls):
        """Return (singular form, plural form, words before, words after) of a finite predicate."""
        be = self.choose([("is", "are"), ("was", "were")])
        if cls not in PEOPLE:
            if self.chance(0.35):
                return "has", "have", [], ["been"] + self.place(cls)
            if cls == "animal" and self.chance(0.4):
                verb = self.choose("sleep rest drink play run")
                return inflect(verb, "s"), verb, [], self.place(cls)
            degree = self.choose([[], [], ["very"], ["quite"], ["always"]])
            return *be, [], degree + [self.word(ADJECTIVES[cls])]
        kind = self.choose("be be have do lexical lexical lexical")
        if kind == "be":
            return *be, [], self.clause("ing") if self.chance(0.6) else [self.choose(STATES)]
        if kind == "have":
            return "has", "have", [], self.clause("part")
        if kind == "do":
            return "does", "do", [], ["not"] + self.clause("base")
        verb, rest = self.vp()
        if inflect(verb, "past") == verb:
            raise LookupError("the past tense hides the agreement")
        adverb = [self.choose(FREQUENCY)] if self.chance(0.5) else []
        return inflect(verb, "s"), verb, adverb, rest

    def agreement(self, subject, num, cls="person"):
        """Complete a subject of a number to a minimal pair of sentences."""
        singular, many, before, after = self.predicate(cls)
        right, wrong = (singular, many) if num == "sg" else (many, singular)
        return contrast(subject + before, right, wrong, after)


def contrast(start, right, wrong, end=(), mark="."):
    """Build a minimal pair from a frame and its right and wrong fillers (words or lists)."""
    fillers = ([f] if isinstance(f, str) else list(f) for f in (right, wrong))
    good, bad = (list(start) + filler + list(end) for filler in fillers)
    return good, bad, mark


def reorder(words, i, j):
    """Build a minimal pair whose second member exchanges two positions of the first."""
    swapped = list(words)
    swapped[i], swapped[j] = swapped[j], swapped[i]
    return words, swapped, "."


def other(num):
    """Return the other number."""
    return "pl" if num == "sg" else "sg"


def by_number(num, pair):
    """Choose the singular or plural member of a blank-separated pair."""
    return pair.split()[num == "pl"]
