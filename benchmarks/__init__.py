"""Measurements that take longer than a test. Each writes rows with the command, the date and the commit."""
