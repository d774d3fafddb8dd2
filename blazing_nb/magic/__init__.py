"""`%blazing` and `%%blazing`: the verbs in a notebook, and their completion."""
