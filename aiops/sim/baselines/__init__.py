"""The autoscalers that others run, from their exact defaults: what the figures of `aiops simulate` are held against."""
