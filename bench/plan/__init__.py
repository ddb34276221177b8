"""The plan of a study: which trials, on which devices, how long they will take, which are held out."""
