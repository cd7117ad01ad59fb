"""Small trained audio models used to show and test model shrinking."""
