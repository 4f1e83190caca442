"""What the black-box tests and the bench use to drive the three programs."""
