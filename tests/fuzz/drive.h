/* SPDX-License-Identifier: MIT
 * drive.h: operations of a store as an input names them: one letter each.
 *     s stat   l list d/   L list all, flat   r read   R read further on   p put   P put, absent   q put, if it matches
 *     u upload of two parts, the second a copy   a the same, given up   m change the mode   d remove   D remove three
 *     c copy   t tags   k make a directory   K remove it   b probe */
#ifndef QUAY_TESTS_FUZZ_DRIVE_H
#define QUAY_TESTS_FUZZ_DRIVE_H

#include "backends/store.h"
#include "tests/fuzz/fuzz.h"

#define DRIVE_MAX 12 /* letters */

/* A store of this class, without wrappers and without anything that the machine is configured with. */
struct store *drive_open(const struct store_class *cls, const char *config);
/* What comes of the operations is looked at: it must be sound, whatever the server said. */
void drive(struct store *s, const char *letters, size_t n);

#endif
