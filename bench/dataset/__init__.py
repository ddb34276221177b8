"""The dataset: its tables and files, one writer at a time, in a folder or an object store."""
