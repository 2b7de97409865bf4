"""Agents: team leads that give tasks to workers, workers that do them with tools, and what they are told."""
