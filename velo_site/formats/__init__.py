"""How the admin writes dates: ISO 8601, in whatever language."""
