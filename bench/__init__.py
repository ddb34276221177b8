"""The study: sweep -> plan -> trials -> dataset -> fit -> validate -> report, and the command line."""
