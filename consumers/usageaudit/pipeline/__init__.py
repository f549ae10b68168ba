"""The path of a batch: poll, decode, judge, record, acknowledge."""
