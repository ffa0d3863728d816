"""The one door to the outside, the addresses that it refuses, and the ways of AWS."""
