"""Phenomena of the demonstration corpus: one function for each column-1 tag.

A function takes a Grammar, draws the words of one minimal pair and returns
(acceptable words, unacceptable words, closing mark).
"""
from grammar import by_number, contrast, other, reorder
from lexicon import (
    ADJECTIVES, COMPARATIVES, COMPLEMENTS, DATIVE_BOTH, DATIVE_TO, FREQUENCY, GERUND,
    GOVERNED_ADJECTIVES, GOVERNED_VERBS, INTRANSITIVE, KIN, MANNER, NEVER_BARE, NOUNS,
    OBJECT_BARE, OBJECT_TO, PASSIVE_WITH_OBJECT, PRONOUNS, REFLEXIVE, REFLEXIVE_PRONOUNS,
    STRICT_TRANSITIVE, THAT_CLAUSE, TO_INFINITIVE, WHETHER_CLAUSE, inflect, plural)


def local_agreement(g):
    """The verb agrees with the subject next to it."""
    num = g.number()
    pronoun = g.choose(by_number(num, "he|she they|we").split("|"))
    return g.agreement([pronoun] if g.chance(0.2) else g.subject(num), num)


def agreement_across_phrase(g):
    """A prepositional phrase stands between subject and verb."""
    head, prep, inner = g.choose([
        ("text", "about", "animal person place vehicle"), ("person", "from", "place"),
        ("person", "near", "place vehicle"), ("person", "with", "animal item device"),
        ("animal", "behind", "furniture vehicle"), ("animal", "near", "person place vehicle"),
        ("item", "under", "furniture"), ("item", "next to", "furniture device"),
        ("vehicle", "behind", "place"), ("furniture", "in front of", "person animal"),
        ("male", "with", "animal item"), ("female", "behind", "vehicle furniture")])
    num = g.number()
    inner_num = other(num) if g.chance(0.8) else num
    phrase = prep.split() + g.np(g.choose(inner), inner_num, "the", 0.1)
    return g.agreement(g.np(head, num) + phrase, num, head)


def agreement_across_clause(g):
    """A relative clause stands between subject and verb, or holds the agreeing verb."""
    num, kind = g.number(), g.choose("subject object inside")
    if kind == "object":
        verb, cls = g.transitive()
        head = g.np(cls, num, "the") + ["who" if cls == "person" else "that"]
        inner = g.np(g.human_class(), other(num)) if g.chance(0.8) else [g.name()]
        return g.agreement(head + inner + [inflect(verb, "past")], num, cls)
    if kind == "subject":
        verb, cls = g.entry(STRICT_TRANSITIVE)
        head = g.np(g.human_class(), num) + ["who", inflect(verb, "past")]
        return g.agreement(head + g.np(cls, other(num), "the"), num)
    verb, _ = g.entry(STRICT_TRANSITIVE, "person")
    start = g.subject(other(num)) + [inflect(verb, "past")]
    return g.agreement(start + g.np(g.human_class(), num, "the") + ["who"], num)


def gendered(g, kind):
    """Build a phrase for one of the reflexive pronouns: male, female or plural."""
    if kind == "plural":
        return g.np(g.human_class(), "pl")
    return [g.name(kind)] if g.chance(0.5) else g.np(kind)


def reflexive(g):
    """A reflexive agrees in gender and number with the subject of its clause."""
    kind, wrong = g.rng.sample(sorted(REFLEXIVE_PRONOUNS), 2)
    frame = g.choose("simple possessor embedded phrase")
    if frame == "possessor":
        owners = "" if wrong != "plural" else g.noun("person", "pl")
        ending = "'" if owners.endswith("s") else "'s"
        owner = ["the", owners + ending] if owners else [g.name(wrong) + ending]
        gender = kind if kind != "plural" else g.choose("male female")
        noun = g.word(NOUNS[gender], KIN.__contains__)
        subject = owner + [plural(noun) if kind == "plural" else noun]
    elif frame == "embedded":
        verb = g.choose("said thought believed knew")
        subject = gendered(g, wrong) + [verb, "that"] + gendered(g, kind)
    elif frame == "phrase":
        head, inner = (g.np("person", "pl", "the", 0) if k == "plural" else g.np(k, "sg", "the", 0)
                       for k in (kind, wrong))
        subject = head + [g.choose("near behind with")] + inner
    else:
        subject = gendered(g, kind)
    tail = g.choose([[], ["again"], ["last", "night"], ["in", "front", "of", "everyone"],
                     ["after", "the", "meeting"], ["for", "no", "reason"], g.place()])
    return contrast(subject + [g.past(REFLEXIVE)], REFLEXIVE_PRONOUNS[kind],
                    REFLEXIVE_PRONOUNS[wrong], tail)


def determiner_noun(g):
    """Determiner and noun agree in number, or in being countable."""
    if g.chance(0.35):
        mass = g.chance(0.5)
        noun = g.noun("mass") if mass else g.noun(g.choose("item food text"), "pl")
        tail = g.choose([[], ["last", "week"], ["this", "morning"], ["for", "the", "guests"]])
        if g.chance(0.5):
            pair = ("much", "many")
            start = g.subject() + ["did", "not", g.choose("buy need want bring find")]
        else:
            pair = ("little", "few")
            start = g.subject() + [inflect(g.choose("buy bring find"), "past"), "a"]
        return contrast(start, *(pair if mass else pair[::-1]), [noun] + tail)
    num = g.number()
    det = g.choose(["this", "that", "every", "each", "another", "a"] if num == "sg" else
                   ["these", "those", "many", "several", "both", "two", "three"])
    verb, cls = g.transitive()
    adjective = [g.word(ADJECTIVES[cls])] if g.chance(0.5) else []
    noun = g.noun(cls)
    pair = (noun, plural(noun)) if num == "sg" else (plural(noun), noun)
    tail = g.place(cls) if cls != "place" and g.chance(0.5) else []
    return contrast(g.subject() + [inflect(verb, "past"), det] + adjective, *pair, tail)


def noun_phrase_order(g):
    """The determiner, the adjective and the noun of an object have a fixed order."""
    verb, cls = g.choose([("read", "text"), ("write", "text"), ("hide", "text"), ("study", "text"),
                          ("visit", "place"), ("photograph", "place"), ("mention", "place")])
    start = g.subject() + [inflect(verb, "past")]
    words = start + g.np(cls, g.number(), "the", 1)
    words += g.place() if cls == "text" else g.choose([["again"], ["last", "week"]])
    adjective = len(start) + 1
    return reorder(words, adjective, adjective + g.choose([-1, 1]))


def word_order(g):
    """One word has moved to a place where English does not allow it."""
    kind = g.choose("np np preposition negation adverb embedded final enough")
    if kind == "np":
        return noun_phrase_order(g)
    num = g.number()
    start = g.subject(num)
    if kind == "preposition":
        return reorder(start + [g.past(INTRANSITIVE)] + g.place(), -3, -2)
    if kind == "negation":
        aux, form = g.choose([("has have", "part"), ("is are", "ing"), ("did did", "base"),
                              ("will will", "base")])
        words = start + [by_number(num, aux), "not"] + g.clause(form)
        return reorder(words, len(start), len(start) + 1)
    if kind == "adverb":
        start = g.subject("sg")
        words = start + [g.choose(FREQUENCY)] + g.clause("s", transitive=True, tail=0)
        return reorder(words, len(start), len(start) + 1)
    if kind == "embedded":
        start += [g.choose("knew asked remembered explained"), g.choose("where why when how")]
        inner, be = g.np(g.human_class(), num), by_number(num, "was were")
        end = g.clause("ing", transitive=True, tail=0)
        return contrast(start, inner + [be], [be] + inner, end)
    if kind == "final":
        verb, *rest = g.clause("past", transitive=True, tail=0)
        return contrast(start, [verb] + rest, rest + [verb])
    cls = g.choose("vehicle item place furniture")
    start = g.np(cls, num, adjective=0) + [by_number(num, "is are")] + g.choose([["not"], []])
    adjective = g.word(ADJECTIVES[cls])
    end = g.choose([[], ["for", "us"], ["for", "the", "family"]])
    return contrast(start, [adjective, "enough"], ["enough", adjective], end)


def argument_structure(g):
    """A verb stands in a frame that it does not select."""
    start, kind = g.subject(), g.choose("object none both to")
    idle = g.past(INTRANSITIVE)
    if kind == "object":
        verb, cls = g.entry(STRICT_TRANSITIVE)
        return contrast(start, inflect(verb, "past"), idle, g.object(cls, 0.3))
    if kind == "none":
        verb = g.entry(NEVER_BARE)[0] if g.chance(0.7) else g.choose("lend send hand")
        end = g.choose([g.place(), g.place() + ["again"], ["this", "morning"], ["after", "dinner"]])
        return contrast(start, idle, inflect(verb, "past"), end)
    both, to_only = g.past(DATIVE_BOTH), g.past(DATIVE_TO)
    textual = to_only != "donated" and g.chance(0.7)
    theme = g.np("text" if textual else g.choose("item device"), g.number(), adjective=0.1)
    goal = g.subject(names=0.5)
    if kind == "both":
        return contrast(start, both, to_only if g.chance(0.6) else idle, goal + theme)
    if not textual:
        idle = g.past("admire devour find discover borrow repair")
        to_only = g.choose("donated described mentioned")
    return contrast(start, both if g.chance(0.25) else to_only, idle, theme + ["to"] + goal)


def complement(g):
    """A verb or adjective takes the wrong kind of complement or preposition."""
    kind, num = g.choose("infinitive object clause adjective verb"), g.number()
    start = g.subject(num)
    if kind == "infinitive":
        (right, form), (wrong, _) = g.flip((g.past(TO_INFINITIVE), "base"), (g.past(GERUND), "ing"))
        verb, rest = g.vp(progressive=True, transitive=True)
        to = ["to"] if form == "base" else []
        return contrast(start, right, wrong, to + [inflect(verb, form)] + rest)
    if kind == "object":
        (right, to), (wrong, _) = g.flip((g.past(OBJECT_TO), ["to"]), (g.past(OBJECT_BARE), []))
        return contrast(start, right, wrong, g.subject() + to + g.clause("base", transitive=True))
    if kind == "clause":
        (verb, right), (_, wrong) = g.flip((g.past(THAT_CLAUSE), "that"),
                                           (g.past(WHETHER_CLAUSE), "whether"))
        return contrast(start + [verb], right, wrong, g.subject() + g.clause("past"))
    if kind == "adjective":
        word, right, wrong, cls = g.choose(GOVERNED_ADJECTIVES)
        start += [by_number(num, "was were"), word]
    else:
        word, right, wrong, cls = g.choose(GOVERNED_VERBS)
        start += [inflect(word, "past")]
    end = [g.choose(COMPLEMENTS[cls])] if cls in COMPLEMENTS else g.object(cls)
    return contrast(start, right, g.choose(wrong), end)


def auxiliary_form(g):
    """An auxiliary is followed by the wrong form of the verb."""
    num = g.number()
    aux, form = g.choose([
        (g.choose("will can must should could might"), "base"), ("did", "base"),
        (by_number(num, "has have"), "part"), ("had", "part"),
        (by_number(num, "is are"), "ing"), (by_number(num, "was were"), "ing")])
    verb, rest = g.vp(progressive=True)
    right = inflect(verb, form)
    others = [k for k in ("base", "part", "ing") if inflect(verb, k) != right]
    if form == "ing" and verb in PASSIVE_WITH_OBJECT:
        others.remove("part")
        if inflect(verb, "part") == verb:
            raise LookupError("the wrong form would be a passive")
    wrong = inflect(verb, g.choose(others))
    if aux != "have" and g.chance(0.25):  # "Have Tom hold it" is a request
        return contrast([aux] + g.subject(num), right, wrong, rest, "?")
    adverb = ["not"] if aux == "did" else g.choose([[], [], ["not"], ["also"]])
    return contrast(g.subject(num) + [aux] + adverb, right, wrong, rest)


def licensing(g):
    """The words "ever" and "any" need a negation in the right place."""
    kind, num = g.choose("scope scope negation negation adverb"), g.number()
    if kind == "scope":
        verb, _ = g.entry(STRICT_TRANSITIVE, "person")
        inner = g.noun("person", g.number())
        words = (["no", g.noun("person", num), "who", "the", inner, inflect(verb, "past"),
                  by_number(num, "has have"), "ever"] + g.clause("part", tail=0))
        return reorder(words, 0, 3)
    verb, cls = g.transitive()
    end = ["any", g.noun(cls, "pl")]
    if kind == "negation":
        idle = inflect(g.word(INTRANSITIVE), "part")
        start = g.np(g.human_class(), num, "the") + ["who", "had"]
        return contrast(start, [idle, "had", "not"], ["not", idle, "had"],
                        [inflect(verb, "part")] + end)
    return contrast(g.subject("sg"), g.choose("never rarely seldom"),
                    g.choose("often always usually"), [inflect(verb, "s")] + end)


def polarity(g):
    """A polarity item lacks its negation, or two clauses clash in polarity."""
    if g.chance(0.5):
        return licensing(g)
    negative = g.chance(0.5)
    if g.chance(0.5):
        right, wrong = ("neither", "so") if negative else ("so", "neither")
        start = g.choose([["no", g.noun("person")], [g.name(), "never"]] if negative else
                         [["every", g.noun("person")], [g.name(), g.choose("always often")]])
        start += g.clause("s", tail=0.1) + [",", "and"]
        return contrast(start, right, wrong, ["does"] + g.subject("sg"))
    right, wrong = ("either", "too") if negative else ("too", "either")

    def half():
        auxiliary = ["did", "not"] if negative else []
        return g.subject() + auxiliary + g.clause("base" if negative else "past", tail=0)
    return contrast(half() + [",", "and"] + half(), right, wrong)


def filler_gap(g):
    """A fronted phrase without a gap, or a gap without a fronted phrase."""
    gap, kind = g.chance(0.5), g.choose("question relative embedded long")
    verb, cls = g.entry(NEVER_BARE)
    if cls == "person" and kind == "long" or cls == "place" and kind == "relative":
        raise LookupError("this object does not fit the frame")
    filler, adjunct = "who" if cls == "person" else "what", g.choose("where when why")
    pronoun = [] if gap else [g.choose("him her them") if cls == "person" else "it"]
    tail = pronoun + g.choose([[], [], ["last", "week"], ["this", "morning"]])
    actor, past = g.subject(), [inflect(verb, "past")]
    if kind == "question":
        pair = (filler, adjunct) if gap else (adjunct, filler)
        return contrast([], *pair, ["did"] + actor + [verb] + tail, "?")
    if kind == "relative":
        start = g.choose(["this is the", "that was the", "we saw the"]).split()
        pair = ("that", "where") if gap else ("where", "that")
        return contrast(start + [g.noun(cls if gap else "place")], *pair, actor + past + tail)
    if kind == "embedded":
        start = g.subject() + [g.choose("knew remembered forgot explained revealed")]
        pair = (filler, "that") if gap else ("that", filler)
        return contrast(start, *pair, actor + past + tail)
    start = ["what", "did"] + g.subject() + [g.choose("say mention announce report")]
    pair = ("that", g.choose("before after when"))
    return contrast(start, *(pair if gap else pair[::-1]), actor + past + tail, "?")


def tense_adverb(g):
    """The tense does not fit a time adverb or an adverbial clause."""
    kind, past, num = g.choose("simple simple clause progressive"), g.chance(0.5), g.number()
    subject = g.subject(num)
    if kind == "progressive":
        pair = by_number(num, "was were"), by_number(num, "is are")
        time = g.choose(["at this time yesterday", "an hour ago", "at noon yesterday"] if past else
                        ["right now", "as we speak"])
        return contrast(subject, *(pair if past else pair[::-1]), g.clause("ing") + time.split())
    options = {"tail": 0} if kind == "clause" else {}
    phrase = g.clause("past", **options) if past else ["will"] + g.clause("base", **options)
    if kind == "clause":
        link = g.choose([["when"], ["before"], ["after"], ["as", "soon", "as"]])
        verb, rest = g.vp(progressive=True, tail=0)
        pair = inflect(verb, "past"), inflect(verb, "s")
        start = subject + phrase + link + g.subject("sg")
        return contrast(start, *(pair if past else pair[::-1]), rest)
    if phrase[0] == "read":
        raise LookupError("the present tense looks like the past")
    unit = g.choose("week month year summer weekend Monday Friday day day")
    times = (["yesterday"], ["tomorrow"]) if unit == "day" else (["last", unit], ["next", unit])
    right, wrong = times if past else times[::-1]
    if g.chance(0.4):
        return contrast([], right, wrong, [","] + subject + phrase)
    return contrast(subject + phrase, right, wrong)


def quantifier(g):
    """Existential "there", partitives and "almost" select their quantifiers."""
    kind, num = g.choose("there almost partitive agree expletive"), g.number()
    cls = g.choose("animal animal item text furniture device person")
    place, be = g.place(cls), g.choose([("is", "are"), ("was", "were")])
    if kind == "there":
        right = g.choose("a one no another" if num == "sg" else "several some many two three no")
        wrong = g.choose("every each" if num == "sg" else "most both all")
        return contrast(["there", be[num == "pl"]], right, wrong, [g.noun(cls, num)] + place)
    if kind == "almost":
        wrong = g.choose("a some each another" if num == "sg" else "several some many")
        return contrast([g.choose("almost nearly")], by_number(num, "every all"), wrong,
                        [g.noun("person", num)] + g.clause("past"))
    if kind == "partitive":
        right = g.choose("several some many two most both each one")
        single = right in ("each", "one")
        end = ["of", "the", g.noun(cls, "pl"), be[not single]]
        end += [g.word(ADJECTIVES[cls])] if g.chance(0.4) else place
        return contrast([], right, g.choose("every no"), end)
    if kind == "agree":
        det = g.choose("a one" if num == "sg" else "several some many two")
        end = [det, g.word(ADJECTIVES[cls]), g.noun(cls, num)] + place
        return contrast(["there"], *(be if num == "sg" else be[::-1]), end)
    if g.chance(0.5):
        thing = g.np(g.choose("furniture device item"), "sg", "a")
        return contrast([], "there", "it", [g.choose("remained stood lay")] + thing + g.place())
    end = [g.choose("seemed appeared"), "that"] + g.subject() + g.clause("past")
    return contrast([], "it", "there", end)


def pronoun_case(g):
    """A pronoun has the wrong case for its position."""
    nominative, accusative, genitive = g.choose(PRONOUNS)
    kind = g.choose("subject embedded subject object preposition control genitive")
    if kind == "subject":
        adverb = g.choose([[], ["probably"], ["never"], ["quickly"]])
        return contrast([], nominative, accusative, adverb + g.clause("past", transitive=True))
    start = g.subject()
    if kind == "embedded":
        start += [g.choose("said thought believed claimed"), "that"]
        return contrast(start, nominative, accusative, g.clause("past", transitive=True))
    if kind == "genitive" and genitive:
        verb, cls = g.entry(STRICT_TRANSITIVE)
        end = [g.noun("male" if cls == "person" else cls)]
        end += g.place(cls) if cls != "place" else []
        return contrast(start + [inflect(verb, "past")], genitive, accusative, end)
    wrong = genitive if genitive and g.chance(0.4) else nominative
    end = g.choose([g.place(), ["again"], ["after", "the", "meeting"], ["this", "morning"]])
    if kind == "control":
        start += [g.past(OBJECT_TO)]
        end = ["to"] + g.clause("base", transitive=True)
    elif kind == "preposition":
        start += g.clause("past", transitive=True, tail=0) + [g.choose("with for without")]
    else:
        start += [inflect(g.entry(STRICT_TRANSITIVE, "person")[0], "past")]
    return contrast(start, accusative, wrong, end)


def coordination(g):
    """Conjuncts differ in form, or a paired conjunction is broken."""
    kind, num = g.choose("verbs verbs manner paired paired"), g.number()
    start = g.subject(num)
    if kind == "verbs":
        # The base form would be a finite verb after plural subjects.
        aux, form = g.choose([(["will"], "base"), (["is"], "ing"), ([], "past")])
        start = g.subject("sg") if form == "ing" else start
        start += aux + g.clause(form, transitive=True, tail=0)
        start += [g.choose("and and or") if form == "base" else "and"]
        verb, rest = g.vp(progressive=True, transitive=True, tail=0.1)
        right = inflect(verb, form)
        wrong = [verb] if form == "ing" else [inflect(verb, "ing")]
        if form == "past" and num == "sg" and right != verb:
            wrong.append(verb)
        return contrast(start, right, g.choose(wrong), rest)
    if kind == "manner":
        (adj, adv), (adj2, adv2) = (g.word(MANNER).split(":") for _ in range(2))
        end = g.choose([["yesterday"], ["in", "the", "morning"], ["all", "day"],
                        ["during", "the", "meeting"]])
        if g.chance(0.5):
            return contrast(start + [by_number(num, "was were"), adj, "and"], adj2, adv2, end)
        verb = g.choose("spoke talked answered replied")
        return contrast(start + [verb, adv, "and"], adv2, adj2, end)
    first, right = g.choose([("both", "and"), ("either", "or"), ("neither", "nor")])
    wrong = g.choose([c for c in ("and", "or", "nor") if c != right])
    if g.chance(0.5):
        return contrast([first] + g.subject("sg"), right, wrong, g.subject("sg") + g.clause("past"))
    verb, cls = g.entry(STRICT_TRANSITIVE)
    start += [inflect(verb, "past"), first] + g.object(cls)
    return contrast(start, right, wrong, g.object(cls, 0.4))


def degree(g, num, be):
    """The degree words "so", "such" and "too" take different phrases."""
    verb, cls, adjective = g.choose([
        ("lift", "furniture", "heavy"), ("carry", "item", "heavy"), ("buy", "vehicle", "expensive"),
        ("read", "text", "long"), ("repair", "device", "old"), ("eat", "food", "cold"),
        ("catch", "animal", "fast"), ("sell", "vehicle", "old"), ("enjoy", "text", "boring"),
        ("use", "device", "old"), ("move", "furniture", "heavy"), ("wrap", "item", "large")])
    whom = g.choose("anyone people children strangers")
    frame = g.choose("so such too")
    if frame == "too":
        return contrast(g.np(cls, num) + be, "too", "such", [adjective, "for", whom, "to", verb])
    end = ["that"] + ("nobody could" if whom == "anyone" else whom + " could not").split()
    end += [verb, by_number(num, "it them")]
    wrong = g.choose([w for w in ("so", "such", "too") if w != frame])
    if frame == "so":
        return contrast(g.np(cls, num) + be, "so", wrong, [adjective] + end)
    start, article = by_number(num, "it they"), ["a"] if num == "sg" else []
    return contrast([start] + be, "such", wrong, article + [adjective, g.noun(cls, num)] + end)


def comparison(g):
    """Comparatives and equatives take fixed partners, as degree words do."""
    num = g.number()
    be = [by_number(num, g.choose(["is are", "was were"]))]
    if g.chance(0.4):
        return degree(g, num, be)
    adjective = g.choose(sorted(COMPARATIVES))
    comparative, classes = COMPARATIVES[adjective]
    cls = g.choose(classes)
    first, second = ((g.subject(n) if cls == "person" else g.np(cls, n, adjective=0))
                     for n in (num, g.number()))
    if g.chance(0.5):
        wrong = g.choose([["as", adjective, "than"], ["as", comparative, "as"]])
        return contrast(first + be, ["as", adjective, "as"], wrong, second)
    wrong = g.choose([[comparative, "as"], [adjective, "than"]])
    return contrast(first + be, [comparative, "than"], wrong, second)


PHENOMENA = {
    "sv_agr": local_agreement, "sv_agr_pp": agreement_across_phrase,
    "sv_agr_rel": agreement_across_clause, "reflexive": reflexive, "det_noun": determiner_noun,
    "word_order": word_order, "arg_struct": argument_structure, "complement": complement,
    "aux_form": auxiliary_form, "polarity": polarity, "filler_gap": filler_gap,
    "tense_adv": tense_adverb, "quantifier": quantifier, "pron_case": pronoun_case,
    "coord": coordination, "compare": comparison,
}
