"""Proposal files of other programs: read, written, and their layouts said explicitly."""
