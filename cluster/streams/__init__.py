"""Readings of power on their way from every node to the driver: clocks compared, none lost."""
