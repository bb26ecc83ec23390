"""House-keeping in S3: what ended uploads left there, and what belongs to no job at all."""
