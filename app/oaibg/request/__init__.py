"""What the user hands in becomes the exact body of a request, and its hash. No network."""
