"""Hands a result to programs that others wrote: each module makes one form, as text or bytes, of the same tables.

Every form is a pure function of the tables: the same result gives the same bytes.
"""
