"""Takes jobs off the lanes and hands them to the analysis servers, over SQS or HTTP."""
