"""The artifact: a release with everything it was made from, as one OCI image layout that proves where it came from."""
