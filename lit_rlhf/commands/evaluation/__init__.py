"""Policies side by side: what is asked, what is drawn and measured, what is shown."""
