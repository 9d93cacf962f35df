"""The device lab from a terminal: its boards and jobs, and its procedures on this machine's emulated boards."""
