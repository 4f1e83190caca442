/* SPDX-License-Identifier: MIT
 * stage_int.h: between stage.c (files, opening, recovery) and stage_rows.c (the journal's connection and what
 * changes in it). */
#ifndef QUAY_CACHE_STAGE_INT_H
#define QUAY_CACHE_STAGE_INT_H

#include "base/lock.h"
#include "base/sqldb.h"
#include "cache/stage.h"

#define STAGE_HASH_DIGITS 16

enum change_kind {
    CHANGE_PUT, CHANGE_REPLACE, CHANGE_REMOVE, CHANGE_SENT, CHANGE_UPLOAD_PUT, CHANGE_UPLOAD_REMOVE, CHANGE_GIVEN_UP_PUT,
    CHANGE_GIVEN_UP_REMOVE, CHANGE_KINDS
};

struct stage {
    char *key, *dir, *journal;
    char prefix[STAGE_HASH_DIGITS + 2]; /* "KEYHASH-": the names of this key's files */
    atomic_uint in_memory;        /* files */
    struct {
        struct lock lock;
        struct cond cond;
        bool busy; /* db is in use by a thread */
        struct sqldb *db;
        struct sqlstmt *prepared[CHANGE_KINDS];
        struct change *first, **last; /* waiting for a thread that commits them all at once */
        struct forgotten *forgotten;  /* rows that may go; here until they are gone */
        unsigned n_forgotten;
    } sync;
};

enum row_flags { ROW_EXCL = 1, ROW_CONFLICT = 2, ROW_INCOMPLETE = 4, ROW_STAMPED = 8, ROW_RESTAMP = 32 };

/* A statement on the journal's connection, which is the caller's until stage_db_give(). */
int stage_db_prepare(struct stage *s, const char *sql, struct err *err, struct sqlstmt **ret);
void stage_db_give(struct stage *s);
/* At the end: the last try. */
void stage_forgotten_done(struct stage *s);

#endif
