"""What the API's document can't say, for schemathesis: two formats of strings, and what a key stands for."""

import itertools
import json
import re

import schemathesis
from hypothesis import strategies as st

# 1 to 64 bytes of UTF-8 that hold something to be seen and no forbidden character: JSON Schema counts characters, not bytes. The
# limit is of the canonical form, which is at most three times as long as what is sent.
unseen = ("Cc", "Cf", "Cn", "Cs", "Mc", "Me", "Mn", "Zl", "Zp", "Zs")
blank = "\u115f\u1160\u2800\u3164\uffa0\U00013441\U00013442\U0001d159"
reactions = st.text(
    st.characters(codec="utf-8", exclude_categories=unseen, exclude_characters=blank), min_size=1, max_size=20
).filter(lambda text: len(text.encode()) <= 21)
schemathesis.openapi.format("reaction", reactions)

# A body that is sent as text/plain. Its `contentSchema` says what is in it, but schemathesis does not read that.
counts = st.integers(1, 1000)
bodies = st.one_of(
    st.fixed_dictionaries({"reaction": reactions}, optional={"count": counts}),
    st.fixed_dictionaries({"reactions": st.dictionaries(reactions, counts, min_size=1, max_size=8)}),
)
schemathesis.openapi.format("reactions", bodies.map(json.dumps))


# An idempotency key belongs to one request and its repeats. Keys that are malformed stay so.
key = "Idempotency-Key"
numbers = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.headers and re.fullmatch("[!-~]{1,64}", str(case.headers.get(key, ""))):
        case.headers[key] = f"request-{next(numbers)}"
