"""The WaveSpeed API: what its models take, what goes over the wire, and the client."""
