"""What trials train on: synthetic batches, or the user's own texts."""
