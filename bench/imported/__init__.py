"""Measurement tables from elsewhere, checked whole."""
