"""Pure values: no Django, no Redis, no torch."""
