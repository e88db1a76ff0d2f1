"""Small helpers. Every other folder may import them; they import no other folder."""
