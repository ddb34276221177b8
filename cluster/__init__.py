"""The hardware: devices, groups of them, processes pinned to a group, power meters on every node."""
