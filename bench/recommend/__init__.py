"""The cheapest way to train a model: candidates, what of them fits, what they cost, and how sure that is."""
