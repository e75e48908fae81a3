"""This machine: its cores, memory and processes; imports nothing of ours."""
