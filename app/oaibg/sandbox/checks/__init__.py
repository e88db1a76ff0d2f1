"""What the API refuses: the checks of the bodies that create something."""
