"""Lexicon of the demonstration grammar: word tables and English inflection."""
import re

# Words after "|" are held out: they occur in dev and test only.

NOUNS = {
    "person": "teacher doctor student nurse lawyer farmer singer writer artist baker driver pilot"
              " guest neighbor child friend manager customer tourist visitor scientist soldier"
              " guard dancer librarian gardener painter dentist engineer judge"
              " | plumber journalist carpenter tailor surgeon pianist mechanic",
    "male": "boy man waiter king prince brother uncle nephew son grandfather"
            " | gentleman monk grandson",
    "female": "girl woman waitress queen princess sister aunt niece daughter grandmother"
              " | lady nun granddaughter",
    "animal": "dog cat horse bird rabbit cow pig duck monkey goat kitten puppy lion"
              " | donkey parrot turtle squirrel",
    "food": "apple sandwich cake pie cookie egg potato tomato carrot banana pizza pancake"
            " | muffin peach omelet",
    "text": "book letter report novel poem article story essay message magazine"
            " | diary pamphlet manuscript",
    "vehicle": "car bus truck bicycle boat van tractor | motorcycle wagon",
    "device": "phone computer radio camera clock lamp printer watch | telescope heater",
    "furniture": "chair table desk shelf sofa bed carpet mirror | stool cupboard",
    "item": "bag box basket bottle umbrella coat hat jacket key knife cup plate"
            " | suitcase scarf wallet",
    "place": "school museum library office kitchen garden park hotel restaurant station market"
             " church hospital theater bank farm | bakery stadium castle",
    "mass": "water bread milk rice furniture sugar money advice information coffee tea luggage"
            " | honey equipment",
}
NAMES = {
    "male": "Tom John Peter David Michael James Robert Daniel Paul Mark | Oscar Henry",
    "female": "Anna Mary Sarah Emma Laura Julia Susan Lucy Alice Kate | Clara Helen",
}
# People that a possessive fits beside kin.
RELATED = set("teacher doctor nurse lawyer guest neighbor friend manager customer dentist driver"
              " gardener tailor".split())
OUTDOORS = "garden park station market farm school | stadium castle"
KIN = set("brother uncle nephew son grandfather grandson sister aunt niece daughter"
          " grandmother granddaughter".split())
PLURALS = {"child": "children", "man": "men", "woman": "women", "gentleman": "gentlemen",
           "shelf": "shelves", "scarf": "scarves", "knife": "knives",
           "potato": "potatoes", "tomato": "tomatoes"}
PREPOSITIONS = {"school": "at", "station": "at", "market": "at", "bank": "at", "farm": "on",
                "stadium": "at"}

ADJECTIVES = {
    "person": "tall young old kind clever famous busy friendly quiet shy rich nervous",
    "animal": "small big old hungry young brown noisy",
    "food": "fresh small cold delicious large",
    "text": "long short interesting old new boring famous",
    "vehicle": "old new expensive cheap red fast blue",
    "device": "old new expensive cheap modern small",
    "furniture": "old new heavy expensive cheap large beautiful",
    "item": "old new small large heavy cheap red beautiful",
    "place": "old new small large quiet famous beautiful",
    "mass": "new cheap fresh",
}
COMPARATIVES = {  # adjective: (comparative, classes)
    "tall": ("taller", "person"), "young": ("younger", "person"), "kind": ("kinder", "person"),
    "rich": ("richer", "person"), "old": ("older", "person animal vehicle place"),
    "small": ("smaller", "animal item place"), "large": ("larger", "furniture item place"),
    "heavy": ("heavier", "furniture item"), "cheap": ("cheaper", "vehicle device furniture"),
    "fast": ("faster", "vehicle"), "long": ("longer", "text"), "strong": ("stronger", "animal"),
    "noisy": ("noisier", "animal vehicle"), "clever": ("cleverer", "person"),
}
STATES = "happy tired hungry ready busy late sick angry sad nervous"
MANNER = ("serious:seriously gentle:gently quiet:quietly careful:carefully polite:politely"
          " calm:calmly brave:bravely patient:patiently nervous:nervously")

# Verbs that need an object, with the classes of that object.
STRICT_TRANSITIVE = (
    "admire:person,place describe:person,place,animal repair:vehicle,device,furniture"
    " fix:vehicle,device buy:food,item,vehicle,device,text destroy:furniture,text,device"
    " mention:person,text,place discover:item,text,place avoid:person,animal"
    " borrow:text,vehicle,device lift:furniture,item hold:item,animal,text wrap:item,food,device"
    " praise:person,text,food invite:person thank:person devour:food find:item,animal,text"
    " bring:food,item carry:item,furniture damage:vehicle,furniture,device greet:person"
    " hug:person,animal catch:animal touch:animal,item,furniture use:device,vehicle"
    " recognize:person,place surprise:person,animal annoy:person receive:text"
    " contact:person protect:person,animal rescue:person,animal examine:text,animal,device"
    " criticize:person,text remove:furniture,item"
    " | inspect:vehicle,place,device polish:furniture,item purchase:food,device,item"
    " comfort:person fetch:item,text")
# The strict ones without any reading that lacks an object ("they hugged").
SOMETIMES_BARE = set("hug touch criticize surprise annoy hold use".split())
NEVER_BARE = " ".join(entry for entry in STRICT_TRANSITIVE.split()
                      if entry.split(":")[0] not in SOMETIMES_BARE)
FREE_TRANSITIVE = (
    "read:text write:text eat:food cook:food clean:furniture,vehicle,device paint:furniture,vehicle"
    " wash:vehicle,animal,item visit:person,place watch:person,animal follow:person,animal,vehicle"
    " help:person call:person feed:animal sell:food,item,vehicle,device,furniture open:item"
    " hide:item,text,food study:text,animal,place draw:animal,person,place push:furniture,vehicle"
    " photograph:person,animal,place chase:animal steal:item,food,vehicle"
    " pack:item order:food drive:vehicle"
    " | sketch:place,animal bake:food translate:text")
INTRANSITIVE = ("sleep laugh sneeze cough smile yawn wait arrive disappear kneel snore faint"
                " tremble chat stumble sigh frown blush limp | doze shiver giggle")
REFLEXIVE = ("hurt blame praise admire describe introduce defend criticize wash convince protect"
             " surprise | injure congratulate")
# Verbs with two objects or a "to" phrase; verbs with the "to" phrase only.
DATIVE_BOTH = "give send show offer lend hand sell"
DATIVE_TO = "explain describe announce mention donate reveal | demonstrate"
TO_INFINITIVE = "want hope decide refuse promise agree plan manage expect pretend | hesitate vow"
GERUND = "enjoy avoid finish suggest consider deny imagine recommend keep | postpone resume"
OBJECT_TO = "tell persuade force allow encourage invite | urge"
OBJECT_BARE = "make let"
THAT_CLAUSE = "believe think claim insist hope | assert"
WHETHER_CLAUSE = "wonder ask inquire"
# word, its preposition, prepositions that it never takes, class of the complement
GOVERNED_ADJECTIVES = [
    ("afraid", "of", "in to from", "animal"), ("proud", "of", "to from at", "person"),
    ("interested", "in", "of at from", "text"), ("similar", "to", "of at", "person"),
    ("worried", "about", "from to in", "animal"), ("fond", "of", "to at from", "animal"),
    ("different", "from", "of at in", "person"), ("jealous", "of", "to from at", "person"),
    ("responsible", "for", "of at from", "animal"), ("aware", "of", "to at from", "text"),
    ("good", "at", "of about from", "games"),
    ("shocked", "at", "to in of", "text"), ("involved", "in", "at about of", "games")]
GOVERNED_VERBS = [
    ("depend", "on", "of at in", "person"), ("rely", "on", "of at to", "person"),
    ("listen", "to", "of at from", "person"), ("look", "at", "of", "animal"),
    ("believe", "in", "at from to", "person"),
    ("suffer", "from", "of to at", "pains"), ("dream", "about", "from to at", "person")]
COMPLEMENTS = {"games": "chess tennis football music mathematics politics".split(),
               "pains": "headaches nightmares insomnia stress allergies".split()}

IRREGULAR = {v.split(":")[0]: v.split(":")[1:] for v in (
    "buy:bought:bought hold:held:held find:found:found bring:brought:brought catch:caught:caught"
    " read:read:read write:wrote:written eat:ate:eaten feed:fed:fed sell:sold:sold hide:hid:hidden"
    " draw:drew:drawn steal:stole:stolen drive:drove:driven sleep:slept:slept"
    " kneel:knelt:knelt hurt:hurt:hurt give:gave:given send:sent:sent show:showed:shown"
    " lend:lent:lent tell:told:told make:made:made let:let:let"
    " think:thought:thought keep:kept:kept").split()}
DOUBLING = set("wrap hug chat plan let".split())
NO_PROGRESSIVE = set("find discover recognize receive mention surprise annoy damage avoid"
                     " disappear faint admire arrive".split())

# Verbs whose passive may keep an object ("Tom was brought a cake").
PASSIVE_WITH_OBJECT = set("bring buy read sell fetch order cook bake write call feed draw steal"
                          " pack catch purchase paint sketch".split())

POSSESSIVES = ["my", "our", "their"]
FREQUENCY = ["often", "usually", "always", "never", "rarely"]
EMBEDDINGS = ["I think that", "we know that", "everyone knows that", "it is true that",
              "they say that", "some people believe that", "it is clear that"]
PRONOUNS = [("I", "me", "my"), ("he", "him", None), ("she", "her", None),
            ("we", "us", "our"), ("they", "them", "their")]
REFLEXIVE_PRONOUNS = {"male": "himself", "female": "herself", "plural": "themselves"}


def plural(noun):
    """Return the plural of a noun."""
    if noun in PLURALS:
        return PLURALS[noun]
    if re.search(r"(s|x|ch|sh)$", noun):
        return noun + "es"
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + "s"


def inflect(verb, form):
    """Return a verb in one of the forms base, s, past, part, ing."""
    stem = verb + verb[-1] if verb in DOUBLING else verb
    if form == "base":
        return verb
    if form == "s":
        return plural(verb)
    if form == "ing":
        return (verb[:-1] if verb.endswith("e") and verb[-2:] != "ee" else stem) + "ing"
    if verb in IRREGULAR:
        return IRREGULAR[verb][0 if form == "past" else 1]
    if verb.endswith("e"):
        return verb + "d"
    return verb[:-1] + "ied" if re.search(r"[^aeiou]y$", verb) else stem + "ed"
