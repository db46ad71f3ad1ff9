"""What the API's document can't say, for schemathesis: two formats of strings."""

import json

import schemathesis
from hypothesis import strategies as st

# 1 to 32 bytes of UTF-8 without control characters: JSON Schema counts characters, not bytes.
reactions = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=32).filter(
    lambda text: len(text.encode()) <= 32
)
schemathesis.openapi.format("reaction", reactions)

# A body that is sent as text/plain. Its `contentSchema` says what is in it, but schemathesis does not read that.
counts = st.integers(1, 1000)
bodies = st.one_of(
    st.fixed_dictionaries({"reaction": reactions}, optional={"count": counts}),
    st.fixed_dictionaries({"reactions": st.dictionaries(reactions, counts, min_size=1, max_size=8)}),
)
schemathesis.openapi.format("reactions", bodies.map(json.dumps))
