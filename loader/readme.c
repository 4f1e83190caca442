/* SPDX-License-Identifier: MIT
 * readme.c: the texts that stand in the spool. What is said here is in quayload(5) at length. */
#include "loader/readme.h"

const char readme_text[] =
    "quayload: drop a job file into new/ and it is run\n"
    "\n"
    "  cp orders.job new/            submit (or write elsewhere and mv; *.tmp *.part .* are ignored)\n"
    "  cp orders.job check/          explain: check/orders.out says what it would do\n"
    "  cat run/orders/progress       one line, replaced once a second\n"
    "  ls done/ failed/              results: NAME.RUNID/, complete from the moment they appear\n"
    "  cat failed/orders.*/summary   what went wrong; rc has the number, log the story\n"
    "  echo cancel orders > ctl      also: retry orders\n"
    "\n"
    "In a result: job state status.json progress files.tsv log rc summary, and when rows were rejected\n"
    "errors.tsv (why) and rejects/ (the rows as they were, to be loaded again).\n"
    "rc: 0 loaded, 1 data or SQL, 2 cannot connect, 3 loaded with rejects, 4 bad job file, 5 cancelled,\n"
    "    6 refused by policy, 7 the commit's outcome is not known\n"
    "Dropping the same job twice loads nothing twice: the ledger in the database knows each file.\n"
    "\n"
    "Import                              Export\n"
    "  [from]                              [from]\n"
    "  path = lake/in/orders-*.csv.gz      db = dw\n"
    "  [to]                                query = select * from sales\n"
    "  db = dw                             [to]\n"
    "  table = orders                      path = lake/out/sales.csv\n"
    "  mode = append\n"
    "\n"
    "Sections and keys (quayload(5) explains each)\n"
    "  [job]      name description atomic=file|job timeout parallel version=1\n"
    "  [from]     path exclude on_empty=fail|ok          | db table query\n"
    "  [to]       db table mode=append|truncate|replace|create|upsert key | path overwrite=replace|fail|skip\n"
    "  [format]   type=auto|csv|tsv|jsonl compress=auto|none|gzip|zstd delimiter quote escape null\n"
    "             header=match|yes|no|N comment trim ragged=fail|null|reject max_row encoding\n"
    "  [columns]  COLUMN = header name | #N | @file | @line | @run | @loaded_at | 'constant'\n"
    "             * = auto    drop = a, b\n"
    "  [errors]   on_error=abort|skip_row|skip_file max_errors=N|N% retries\n"
    "  [dedupe]   ledger=yes|no changed=fail|reload|skip force=no\n"
    "Several operations: [from a] [to a] [from b] [to b]; other sections may be labelled likewise.\n";

const char readme_ctl[] =
    "# Write one command a line into this file:  echo cancel NAME > ctl\n"
    "#   cancel NAME    ends a running or waiting job (rolled back, state cancelled)\n"
    "#   retry NAME     runs the newest failed run of NAME again\n";
