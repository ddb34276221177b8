"""What a training that somebody has in mind will cost: models by name, how much training, and what is told of it."""
