/* SPDX-License-Identifier: MIT
 * t_spawn.c: command lines to words, and programs that behave in all ways. */
#include "base/spawn.h"

#include "base/clock.h"
#include "tests/unit/t.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

static void words(const char *line, const char *want)
{
    struct err e = ERR_INIT;
    struct buf b = BUF_INIT;
    char **v = spawn_words(line, &e);
    CHECK(v != NULL);
    for (size_t i = 0; v[i]; i++)
        buf_addf(&b, "%s[%s]", i ? " " : "", v[i]);
    CHECK_STR(buf_str(&b), want);
    buf_done(&b);
    spawn_words_free(v);
}

static void test_words(void)
{
    words("a b", "[a] [b]");
    words("  /usr/bin/x\t--flag  'one two' \"three four\" ", "[/usr/bin/x] [--flag] [one two] [three four]");
    words("a'b c'd\"e f\"", "[ab cde f]");
    words("a\\ b \\'c \\\\", "[a b] ['c] [\\]");
    words("'a\\b' \"a\\b\" \"a\\\"b\" \"a\\\\b\"", "[a\\b] [a\\b] [a\"b] [a\\b]");
    words("x '' \"\"", "[x] [] []");
    words("x $HOME `id` $(id) ; | & > < * ~ #", "[x] [$HOME] [`id`] [$(id)] [;] [|] [&] [>] [<] [*] [~] [#]");
    const char *const bad[] = {"", "  \t", "'", "a \"b", "a \\"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err e = ERR_INIT;
        CHECK(spawn_words(bad[i], &e) == NULL);
        CHECK_INT(e.code, EINVAL);
    }
}

static int run(const char *script, unsigned timeout_ms, struct spawn_result *ret, struct op *op)
{
    char sh[] = "sh", c[] = "-c", *text = strdup(script);
    char *argv[] = {sh, c, text, NULL};
    op_init(op, "test", 0);
    *ret = SPAWN_RESULT_INIT;
    int r = spawn_capture(argv, timeout_ms, op, ret);
    free(text);
    return r;
}

static void test_output_and_status(void)
{
    struct spawn_result r;
    struct op op;
    CHECK_INT(run("echo out; echo err >&2; exit 3", 10000, &r, &op), 0);
    CHECK_STR(buf_str(&r.out), "out\n");
    CHECK_STR(buf_str(&r.errors), "err\n");
    CHECK(WIFEXITED(r.status) && WEXITSTATUS(r.status) == 3);
    spawn_result_done(&r);
    CHECK_INT(run("cat; ls /proc/self/fd | wc -l", 10000, &r, &op), 0); /* no input; 0, 1, 2 and ls's own */
    CHECK_STR(buf_str(&r.out), "4\n");
    spawn_result_done(&r);
    CHECK_INT(run("kill -TERM $$", 10000, &r, &op), 0);
    CHECK(WIFSIGNALED(r.status) && WTERMSIG(r.status) == SIGTERM);
    spawn_result_done(&r);
}

static void test_what_goes_wrong(void)
{
    struct spawn_result r = SPAWN_RESULT_INIT;
    struct op op;
    char path[] = "/no/such/program", *nothing[] = {path, NULL};
    op_init(&op, "test", 0);
    CHECK_INT(spawn_capture(nothing, 1000, &op, &r), -ENOENT);
    CHECK(strstr(op.err.text, "/no/such/program"));
    spawn_result_done(&r);
    uint64_t start = clock_now_ns();
    CHECK_INT(run("sleep 100 & sleep 100", 200, &r, &op), -ETIMEDOUT); /* its children, too */
    CHECK((clock_now_ns() - start) / NS_PER_S < 50);
    CHECK(WIFSIGNALED(r.status) && WTERMSIG(r.status) == SIGKILL);
    spawn_result_done(&r);
    CHECK_INT(run("exec >&- 2>&-; exec sleep 100", 200, &r, &op), -ETIMEDOUT);
    spawn_result_done(&r);
    CHECK_INT(run("yes", 20000, &r, &op), -EMSGSIZE);
    CHECK(r.out.len <= SPAWN_OUTPUT_MAX);
    spawn_result_done(&r);
    CHECK_INT(run("yes | head -c 1000000 >&2; echo end", 20000, &r, &op), 0);
    CHECK_STR(buf_str(&r.out), "end\n");
    spawn_result_done(&r);
}

int main(void)
{
    RUN(test_words);
    RUN(test_output_and_status);
    RUN(test_what_goes_wrong);
    return t_done();
}
