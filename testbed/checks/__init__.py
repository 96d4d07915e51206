"""What a variant must do right before it is measured: who reaches whom, and what arrives how.

Every check works from outside, on TAPs and radios, so that it holds any node to the same. Must not
know trials, rates or what is made of a check that failed.
"""
