"""Redis and RQ's data: connection, clock, scripts, and what is read and written with them."""
