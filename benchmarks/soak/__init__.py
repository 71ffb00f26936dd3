"""Hard use of the app, by one bounded command."""
