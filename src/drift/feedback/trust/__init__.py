"""What a user needs to know before they train on labels: how many, how right, and what they look like."""
