"""As test_920, with a server behind it: large files that leave in parts while they are written, and directories that are
renamed object by object. A file of its own: another worker takes it."""

import pytest

from .test_920_power_cut import crash


@pytest.mark.deadline(280)
def test_nothing_closed_is_lost_on_s3(build_dir):
    crash(build_dir, "--points", "60", "--steps", "8", "--seed", "2", "--store", "s3")
