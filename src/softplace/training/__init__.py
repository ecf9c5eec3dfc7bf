"""What the trainings of all places share: their folder and its checkpoint, how they stop, what a person may give."""
