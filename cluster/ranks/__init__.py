"""Processes pinned to devices: forked fast, run as a gang, their failures understood."""
