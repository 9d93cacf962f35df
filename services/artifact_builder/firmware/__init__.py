"""From generated C to a signed image: compilers, the linked ELF, MCUboot's format."""
