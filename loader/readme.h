/* SPDX-License-Identifier: MIT
 * readme.h: the texts that stand in the spool for people: README and the help in ctl. */
#ifndef QUAY_LOADER_README_H
#define QUAY_LOADER_README_H

extern const char readme_text[];
extern const char readme_ctl[]; /* every line begins with '#' */

#endif
