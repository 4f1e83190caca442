/* SPDX-License-Identifier: MIT
 * descriptors.c: see descriptors.h. */
#include "fs/descriptors.h"

#include "base/cleanup.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#define LOOK_MAX 32

static bool may_write(pid_t tid, const char *fd, int mount_id, uint64_t ino)
{
    char path[300];
    char line[256];
    unsigned flags = O_RDONLY;
    int mount = -1;
    unsigned long long inode = 0;
    snprintf(path, sizeof(path), "/proc/%d/fdinfo/%s", (int)tid, fd);
    CLEANUP_FILE FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "flags: %o", &flags) != 1 && sscanf(line, "mnt_id: %d", &mount) != 1)
            (void)sscanf(line, "ino: %llu", &inode);
    }
    return mount == mount_id && inode == ino && (flags & O_ACCMODE) != O_RDONLY;
}

bool descriptors_write_too(pid_t tid, int mount_id, uint64_t ino)
{
    char path[64];
    bool found = false;
    snprintf(path, sizeof(path), "/proc/%d/fdinfo", (int)tid);
    DIR *d = tid > 0 && mount_id > 0 ? opendir(path) : NULL;
    if (!d)
        return false;
    const struct dirent *e;
    for (int n = 0; !found && n < LOOK_MAX && (e = readdir(d)) != NULL; n++)
        found = e->d_name[0] != '.' && may_write(tid, e->d_name, mount_id, ino);
    closedir(d);
    return found;
}
