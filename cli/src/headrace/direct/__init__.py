"""Uploads straight to S3, part by part, which a repeated command resumes."""
