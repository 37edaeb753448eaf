"""The online service: follows the rollout, answers, and writes down what it answered."""
