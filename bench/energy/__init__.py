"""Readings of meters become joules: counters and their ticks, traces of power, nodes, idling."""
