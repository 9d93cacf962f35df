"""The command line, and the local stack that runs every service in one command."""
