"""New hardware: which trials to run on a device that a law does not know, and whether the corrected law holds."""
