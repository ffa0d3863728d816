"""Calls to AWS Lambda: credentials, signatures, the Invoke API. The only package that imports botocore, and only late:
it takes a third of a second."""
