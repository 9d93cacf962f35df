"""One module a command: options in, a function elsewhere called, the result printed."""
