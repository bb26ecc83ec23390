"""The ingest API: takes recordings in, streams them to S3 and queues their jobs."""
