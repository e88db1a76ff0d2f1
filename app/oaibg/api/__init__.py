"""Calls to the Responses API through the SDK. Only this folder imports `openai`."""
