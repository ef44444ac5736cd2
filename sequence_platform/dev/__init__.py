"""What developers and tests run that production has elsewhere: a Kafka of one's own."""
