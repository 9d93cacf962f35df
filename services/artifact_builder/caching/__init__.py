"""What stages gave, by the key of everything that they depend on."""
