"""The checks of requests that create something: they raise the API's errors."""
