"""The study: its machines, its session, and the loop that carries its trials out."""
