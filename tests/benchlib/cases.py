"""All cases, in the order of the table."""

from . import far, reads, trees, writes

CASES = reads.CASES + far.CASES + trees.CASES + writes.CASES
