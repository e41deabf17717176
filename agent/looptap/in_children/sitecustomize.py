"""What Python imports by this name as it starts, in the processes that ``looptap run --serving`` starts (:mod:`looptap.children`).

It takes the place of the program's own module of this name, if that has one, and imports it. Nothing is left of the folder that it
lies in on ``sys.path``; in another environment than ours, which has no looptap, it does nothing.
"""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

#: What Ray starts beside the program has servers, too: they answer Ray, and no user of a model.
_OF_RAY = os.path.join("ray", "dashboard", "")

_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [place for place in sys.path if os.path.abspath(place) != _HERE]

try:
    if not any(_OF_RAY in argument for argument in sys.orig_argv):
        import looptap

        looptap.autolog()
except Exception:  # noqa: BLE001, S110 - whatever it is, the program was not to know of us
    pass

_spec = PathFinder.find_spec(__name__, sys.path)
if _spec is not None and _spec.loader is not None:
    sys.modules[__name__] = module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[__name__])
