"""Decisions of the device lab: which releases are staged (`candidates`), and which may leave it (`acceptance`)."""
