"""Every service, the bus, virtual boards and a gateway as processes on this machine, started and watched together."""
