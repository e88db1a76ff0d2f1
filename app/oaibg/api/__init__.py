"""The Responses API through the SDK. The only user of `openai`."""
