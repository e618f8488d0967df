"""A look at everything that an expert would look at: gathered once, then one small rule for each thing.

``exam`` gathers; ``findings`` says what a rule is; the other files are the rules, pure, and ``tables`` lists them.
"""
