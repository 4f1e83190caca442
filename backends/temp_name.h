/* SPDX-License-Identifier: MIT
 * temp_name.h: names of temporary files beside what they are going to replace (local, sftp).
 *
 * A name is TEMP_PREFIX, who made it, and random digits:
 *     .quay-tmp-HOST-PID-START-RANDOM
 * HOST stands for this machine since it was started, and the PID namespace; PID and START (when the
 * process began) for one process in it. So every process of the same machine can tell what a killed
 * one has left from what is in use; what other machines made, and this one before it was started
 * again, is a stranger's. Names of another form (an older quayfs) are strangers'.
 *
 *     temp_name_make(name);                      // open it with O_EXCL
 *     if (temp_name_is(entry) && temp_name_is_left(entry, st.st_mtime, st.st_size == 0)) ...remove...
 *
 * That of an upload in parts (sftp) is .quay-tmp-u-HOST-PID-START-RANDOM. It outlives its process: another one goes on
 * with it, days later perhaps, and its bytes may be nowhere else. So only who knows the upload removes it; but an empty
 * one that is a day old is one that nobody came to know.
 *
 * Threads: any. No errors: where /proc does not tell, all names are strangers'. Facts: proc(5). */
#ifndef QUAY_BACKENDS_TEMP_NAME_H
#define QUAY_BACKENDS_TEMP_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define TEMP_PREFIX ".quay-tmp-"
#define TEMP_NAME_MAX 96 /* with the NUL */

enum temp_owner {
    TEMP_STRANGE = 0, /* in use perhaps: only its age tells */
    TEMP_OURS,        /* of this process */
    TEMP_LEFT         /* of one that is no more */
};

void temp_name_make(char ret[TEMP_NAME_MAX]);
void temp_name_make_upload(char ret[TEMP_NAME_MAX]);
bool temp_name_is(const char *name); /* reserved: begins with TEMP_PREFIX */
bool temp_name_is_upload(const char *name);
bool temp_name_in(const char *path); /* is a segment of it such a name? */
enum temp_owner temp_name_owner(const char *name);
/* Is it nobody's any more, to be removed by who meets it? mtime: of the last change. */
bool temp_name_is_left(const char *name, time_t mtime, bool empty);

#endif
