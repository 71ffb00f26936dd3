"""What stands between the network and the app: limits, admission, headers, and the end."""
