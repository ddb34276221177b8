"""The machines: their devices, how these are joined, which are held, who comes and goes."""
