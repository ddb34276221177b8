"""`joulelaw meter`: the energy of a stretch of time, or of a command."""
