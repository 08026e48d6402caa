"""Proposal files of other programs: readers, writers and explicit box layouts."""
