"""The service, offline. Shares no code with the client, or a wrong field name would agree with itself."""
