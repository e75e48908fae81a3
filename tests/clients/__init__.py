"""Programs that use foreign clients as their users would; each runs in the clients' environment."""
