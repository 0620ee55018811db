"""From what the outside sends to what the state believes.

``check.py`` says of one incoming event whether it is sound, and why not. To add a rule: a reason and a test in
``tests/streaming/test_check.py``.
"""
