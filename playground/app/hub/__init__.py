"""Models on the Hub, judged before they are downloaded."""
