/* SPDX-License-Identifier: MIT
 * cleanup.h: scope-exit attributes for locals that own something.
 *
 * Purpose: early returns without leaks. A local that owns is declared with its cleanup attribute and
 * initialised to empty; success hands it over with take_ptr()/take_fd().
 *
 *     CLEANUP_FREE char *name = strdup(x);
 *     CLEANUP_FD int fd = -1;
 *     ...
 *     *ret_name = take_ptr(&name);
 *
 * Errors: none. Threads: any. errno is preserved by every cleanup. */
#ifndef QUAY_BASE_CLEANUP_H
#define QUAY_BASE_CLEANUP_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_(void *p)
{
    free(*(void **)p);
}

static inline void cleanup_fd_(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        (void)close(*fd);
        errno = saved;
    }
    *fd = -1;
}

static inline void cleanup_file_(FILE **f)
{
    if (*f) {
        int saved = errno;
        (void)fclose(*f);
        errno = saved;
    }
    *f = NULL;
}

#define CLEANUP_FREE __attribute__((cleanup(cleanup_free_)))
#define CLEANUP_FD __attribute__((cleanup(cleanup_fd_)))
#define CLEANUP_FILE __attribute__((cleanup(cleanup_file_)))

/* Moves ownership out of a variable that has a cleanup attribute. */
#define take_ptr(pp)                                                                               \
    __extension__({                                                                                \
        __auto_type take_pp_ = (pp);                                                               \
        __auto_type take_p_ = *take_pp_;                                                           \
        *take_pp_ = NULL;                                                                          \
        take_p_;                                                                                   \
    })

static inline int take_fd(int *fd)
{
    int v = *fd;
    *fd = -1;
    return v;
}

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
