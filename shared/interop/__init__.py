"""What other tools read and write: hardware maps, labgrid places, JUnit reports, signed results, and their history."""
