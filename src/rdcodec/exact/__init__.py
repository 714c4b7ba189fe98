"""Integers only: what two machines must compute alike, down to the last bit."""
