"""How a study stands, read from its dataset."""
