"""Direct upload (A14): a client sends its file part by part straight to S3."""
