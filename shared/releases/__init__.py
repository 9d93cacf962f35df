"""What a repository declares, and what a release is made of."""
