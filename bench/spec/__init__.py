"""The sweep file: what it may say, and every mistake in it told with its place."""
