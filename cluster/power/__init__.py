"""Power meters: one interface, one file a meter, and the sampler that reads one. No Ray, no torch, no CUDA context."""
