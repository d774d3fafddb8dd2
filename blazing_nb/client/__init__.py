"""The client: enqueues and watches operations. Draws nothing; imports `store` and below."""
