"""Testbeds brought up, held on to and taken down, with a journal of all that is made."""
