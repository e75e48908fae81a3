"""The languages that are spoken at the door: one folder for each, but for Velo's own."""
