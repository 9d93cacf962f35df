"""Virtual boards: SMP over UDP, MCUboot's two slots in files, and the real model, executed."""
