"""The scheduler's drill: processes die and freeze, and every due time fires once all the same."""
