"""The verbs of the command line, one file a group. What is heavy is imported inside each command, when it runs."""
