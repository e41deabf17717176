"""What a model answers in production: latency, errors and predictions of every request, in windows of ten seconds.

``traffic`` is all that runs in the threads of the program: a request and the calls of models inside it are noted with the time,
and put where ``recording``, a thread of our own, takes them from. That one counts them in ``windows`` (what a model has answered is
read by ``predictions``) and writes each window to the journal when it is over. ``watching`` sees the calls of a model; ``asgi`` and
``wsgi`` see requests.
"""
