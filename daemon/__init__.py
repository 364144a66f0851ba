"""Inbox in, filed images and rows out."""
