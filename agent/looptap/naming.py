"""Names for runs that people can say: ``calm-otter-12``. Ids for machines: sortable by time, unique without a server."""

from __future__ import annotations

import random
import time

#: Of the system, so that neither a seed of the program's makes names repeat nor we change its sequence.
_DICE = random.SystemRandom()
_MOODS = (
    "able bold brave brisk calm clear clever cosy crisp daring deft eager early fair fast fine fond free fresh gentle glad"
    " golden good grand happy honest humble keen kind lively lucky mellow merry mild neat noble open patient plain polite"
    " prime proud quick quiet ready rich robust royal sage sharp shy silent simple sleek smart snug solid sound spry steady"
    " still sturdy sunny sure sweet swift tidy true vivid warm wise witty young"
).split()
_ANIMALS = (
    "ant badger bat bear beaver bee bison boar bobcat camel carp cat cobra cod condor coot crab crane cricket crow deer dingo"
    " dove duck eagle eel egret elk falcon ferret finch fox frog gecko goat goose gull hare hawk hen heron horse ibex ibis"
    " jackal jay koala lark lemur lion llama lobster lynx magpie marten mole moose moth mouse newt ocelot orca otter owl ox"
    " panda parrot pelican perch pike pony puffin puma quail rabbit raven robin salmon seal shark sheep shrew shrimp skunk"
    " sloth snail snake sparrow spider squid stork swan swift tapir tern tiger toad trout turtle viper vole walrus wasp"
    " weasel whale wolf wombat wren yak zebra"
).split()


#: Of an id.
ID_DIGITS = 18


def run_name(digest: str | None = None) -> str:
    """A name by chance, or the one that belongs to a digest in hex."""
    number = _DICE.getrandbits(64) if digest is None else int(digest[:16], 16)
    number, mood = divmod(number, len(_MOODS))
    number, animal = divmod(number, len(_ANIMALS))
    return f"{_MOODS[mood]}-{_ANIMALS[animal]}-{number % 90 + 10}"


def new_id() -> str:
    """18 hex digits: 11 of the time in milliseconds, 7 random. Later ids sort after earlier ones."""
    return f"{time.time_ns() // 1_000_000:011x}{_DICE.getrandbits(28):07x}"
